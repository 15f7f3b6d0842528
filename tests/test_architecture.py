"""What no linter knows: sizes, start-up, presets, the README, and what must never be committed."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiprod_studio.library.presets import read_preset
from aiprod_studio.settings import settings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "aiprod_studio").rglob("*.py"))
SOURCES = [*PACKAGE, ROOT / "launcher.py", *sorted((ROOT / "tests").rglob("*.py"))]
FILE_LINES, BODY_LINES = 500, 60
# What is larger, with the lines it may have. Entries may shrink and go, not grow and come.
LARGER_FILES: dict[str, int] = {}
LARGER_BODIES: dict[str, int] = {}
# Written so that this file does not find itself.
MACHINE_PATH = re.compile(r"/(?:root|work|home/\w+)/(?=\w)|[A-Z]:\\Users\\\w")


def name(path: Path) -> str:
    """Return the path of a file as the lists above write it."""
    return path.relative_to(ROOT).as_posix()


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a file with the lines of its body, the docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{name(path)}:{node.name}", lines


def python(*arguments: str) -> str:
    """Return what the package prints in a Python of its own."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked() -> list[Path]:
    """Return the files that are or would be committed; in a plain copy, the sources and texts."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return [*SOURCES, *ROOT.glob("*.*"), *(ROOT / "docs").rglob("*.md")]
    return [path for line in done.stdout.split("\0") if (path := ROOT / line).is_file()]


def test_files_are_short() -> None:
    sizes = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    larger = {file: size for file, size in sizes.items() if size > FILE_LINES}
    assert larger == LARGER_FILES


def test_functions_are_short() -> None:
    found = [body for path in SOURCES for body in bodies(path)]
    larger = {function: lines for function, lines in found if lines > BODY_LINES}
    assert larger == LARGER_BODIES


@pytest.mark.parametrize(
    "start",
    ["import aiprod_studio", "import aiprod_studio.cli; aiprod_studio.cli.main(['--help'])"],
    ids=["import", "--help"],
)
def test_starts_without_the_heavy_libraries(start: str) -> None:
    heavy = "sys.modules.keys() & {'torch', 'av', 'numpy', 'PIL', 'rich', 'safetensors'}"
    program = f"import sys\ntry:\n    {start}\nexcept SystemExit:\n    pass\nprint(sorted({heavy}))"
    assert python("-c", program).splitlines()[-1] == "[]"


def test_names_in_all_exist() -> None:
    found = []
    for path in PACKAGE:
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            module = importlib.import_module(dotted.removesuffix(".__init__"))
            found += [(module, attribute) for attribute in module.__all__]
    assert found
    for module, attribute in found:
        assert getattr(module, attribute) is not None


def test_every_preset_parses() -> None:
    presets = sorted(settings().presets.glob("*.toml"))
    assert presets
    for path in presets:
        preset = read_preset(path)
        assert preset.description, f"{path.name} does not say what it is for"


def test_nothing_is_mocked() -> None:
    forbidden = "unittest" + ".mock"
    assert [name(path) for path in SOURCES if forbidden in path.read_text(encoding="utf-8")] == []


def test_every_test_asserts() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = ast.unparse(node)
                assert re.search(
                    r"\bassert\b|\bassert_close\(|pytest\.raises|\bcheck\w*\(|\bexpect\(", text
                ), f"{name(path)}:{node.name} asserts nothing"


def test_no_path_of_one_machine() -> None:
    files = tracked()
    assert len(files) > 10
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = MACHINE_PATH.search(text)
        assert found is None, f"{name(path)} names {found[0] if found else ''}"


def test_everything_used_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    used = [*project["dependencies"], *(need for extra in extras for need in extra)]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    told = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for need in used:
        wanted = re.split(r"[<>=!~;\[ ]", need)[0]
        pin = re.search(rf"^{re.escape(wanted)}==(\S+)$", pins, re.MULTILINE)
        assert pin, f"{wanted} has no pin in constraints.txt"
        assert re.search(rf"\b{re.escape(wanted)}\b.*\b{re.escape(pin[1])}\b", told), (
            f"docs/dependencies.md does not name {wanted} {pin[1]}"
        )


# --- the README ----------------------------------------------------------------------------------


def fences() -> list[str]:
    """Return the fenced blocks of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def tree_paths(tree: str) -> Iterator[Path]:
    """Yield every path that a tree names: a line's first word, and all words where all are paths.

    Deeper lines lie in the folder above them; one word on top may be the root's own name.
    """
    parents: list[tuple[int, Path]] = [(-1, ROOT)]
    for number, line in enumerate(tree.splitlines()):
        depth = len(line) - len(line.lstrip(" │├└─\u00a0"))
        words = line[depth:].split()
        if not words or (number == 0 and len(words) == 1 and not (ROOT / words[0]).exists()):
            continue
        while parents[-1][0] >= depth:
            parents.pop()
        parent = parents[-1][1]
        several = all(re.fullmatch(r"[\w./-]+(?:/|\.\w+)", word) for word in words)
        yield from (parent / word for word in (words if several else words[:1]))
        if words[0].endswith("/"):
            parents.append((depth, parent / words[0]))


def test_the_readme_draws_the_tree_that_is_there() -> None:
    trees = [block for block in fences() if re.search(r"^[\s│├└─]*aiprod_studio/", block, re.M)]
    assert len(trees) == 1, "README.md draws the tree once, in a fenced block"
    paths = list(tree_paths(trees[0]))
    assert len(paths) > 10
    assert [name(path) for path in paths if not path.exists()] == []


def test_the_readme_gives_commands_that_work() -> None:
    commands = [line.strip() for block in fences() for line in block.splitlines()]
    starts = [line for line in commands if line.startswith("python launcher.py")]
    assert any(line.startswith('python launcher.py --cli "') for line in starts)
    assert any(line.startswith("python launcher.py --test") for line in starts)
    launcher = ast.get_docstring(ast.parse((ROOT / "launcher.py").read_text(encoding="utf-8")))
    known = (launcher or "") + python("-m", "aiprod_studio", "--help")
    for line in starts:
        for word in re.findall(r"launcher\.py ([\w-]+)", line):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", known), f"{line}: {word}?"
