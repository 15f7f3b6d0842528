"""AIPROD Studio: install on the first start, then start.

  python launcher.py                  open the studio in the browser (a double-click does the same)
  python launcher.py --cli "PROMPT"   make a clip and print where the mp4 lies
  python launcher.py --test [ARGS]    install the test tools and run the test suite
  python launcher.py --shortcut       put the studio on the desktop
  python launcher.py --repair [ARGS]  build the environment anew, then start with ARGS, if any
  python launcher.py COMMAND ...      any other command of the studio; "doctor --help" explains one

Everything lies in your data folder; AIPROD_HOME names another one. PyTorch is chosen for your GPU;
AIPROD_TORCH_INDEX names another package index for it, or "pip" for whatever pip finds by itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Both are standard library only, and work before anything is installed.
from aiprod_studio.errors import StudioError
from aiprod_studio.hardware.builds import (
    Choice,
    Gpu,
    check_space,
    choose_torch,
    describe_size,
    hide_password,
    name_source,
    probe_index,
    query_gpu,
    settle_index,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME, PACKAGE = "AIPROD Studio", "aiprod_studio"


class Stamp(NamedTuple):
    """What an environment is made from; `inputs` stays empty until the install is complete."""

    inputs: str
    python: str
    pin: str
    build: str
    source: str
    extras: list[str]


# What a failing pip or system says (a pattern, the more telling first), and what to say then.
FAILURES = r"""
(?i)no space left|Errno 28\]|WinError 112\]|quota exceeded
The disk is full. Next: free some space, also in the temporary folder {temp}, and start again;
what is there already is kept.

Long Path support
A file name grew too long for Windows. Next: set AIPROD_HOME to a short folder, such as C:\aiprod.

Errno (1|2|13|17|20|30)\]|WinError (3|5|32|183)\]|Permission denied|Access is denied
A file or folder cannot be written. Next: close every running AIPROD Studio and check that {env} and
{temp} are yours to write to, or set AIPROD_HOME to a folder that is.

CERTIFICATE_VERIFY_FAILED|SSLError
The package index could not prove who it is. Next: check this computer's clock; behind a company
proxy give pip its certificate (pip config set global.cert FILE).

(?i)(connect\w*|timeout|proxy|protocol)error|new connection|name.?resol|getaddrinfo|timed out
The network or the package index does not answer. Next: connect this computer to the internet (or
set pip's proxy or index) and start again; it goes on where it stopped.

DO NOT MATCH THE HASHES|Bad CRC|BadZipFile|wheel .* is invalid
A download arrived damaged. Next: start again; if it repeats, run: pip cache purge.

No matching distribution|requires a different Python
A package has no build for Python {python} on this system. Next: install Python 3.11, 3.12 or 3.13
(64-bit) from python.org and start the launcher with it.

ResolutionImpossible|conflicting dependencies
The pinned versions do not fit together. Next: get a fresh copy of AIPROD Studio.

(?s).*
The install stopped with exit code {code}. Next: start again; if it repeats, start with --repair.
"""


def say(text: str) -> None:
    """Print a line for people on stderr: stdout belongs to the program that is started."""
    print(text, file=sys.stderr, flush=True)


def check_python(version: tuple[int, ...]) -> None:
    """Raise StudioError if this Python is too old."""
    if version < (3, 11):
        raise StudioError(
            f"{NAME} needs Python 3.11 or newer; this is {version[0]}.{version[1]}. Next: install"
            " a newer one from python.org and start the launcher with it."
        )


def find_data(system: str, environ: Mapping[str, str], user: Path) -> Path:
    """Return the folder where the system keeps the data of a user's programs."""
    if system == "Windows":
        return Path(environ.get("LOCALAPPDATA") or user / "AppData" / "Local")
    if system == "Darwin":
        return user / "Library" / "Application Support"
    return Path(environ.get("XDG_DATA_HOME", "").strip() or user / ".local" / "share")


def find_home(system: str, environ: Mapping[str, str], user: Path) -> Path:
    """Return our data folder: AIPROD_HOME, or one of our own beside other programs'."""
    if environ.get("AIPROD_HOME"):
        return Path(environ["AIPROD_HOME"]).expanduser().absolute()
    return find_data(system, environ, user) / NAME


def find_python(env: Path) -> Path:
    """Return the interpreter of the environment `env`, whether it is there or not."""
    return env / "Scripts" / "python.exe" if os.name == "nt" else env / "bin" / "python"


# --- the environment -----------------------------------------------------------------------------


def read_project(root: Path) -> tuple[str, str]:
    """Return the fingerprint of what is to be installed, and the pin of torch, if any."""
    try:
        parts = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    except OSError as error:
        raise StudioError(
            f"{error.filename} cannot be read ({error.strerror}). Next: get a whole copy of {NAME}"
            " and start the launcher inside it."
        ) from error
    pin = re.search(rb"^torch==[^\s;]+", parts[1], re.MULTILINE)
    # The folder counts too: the environment points into it.
    digest = hashlib.sha256(b"\0".join([*parts, os.fsencode(root)])).hexdigest()
    return digest, pin[0].decode() if pin else ""


def read_stamp(env: Path) -> Stamp | None:
    """Return the stamp of `env`, or None if it has none that can be read."""
    try:
        return Stamp(**json.loads((env / "aiprod-stamp.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(env: Path, stamp: Stamp) -> None:
    """Store `stamp` in `env`, whole or not at all."""
    part = env / "aiprod-stamp.part"
    part.write_text(json.dumps(stamp._asdict(), indent=1), encoding="utf-8")
    part.replace(env / "aiprod-stamp.json")


def ask_python(env: Path) -> str:
    """Return "3.11", say, from the interpreter of `env`, or nothing if it does not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [find_python(env), "-I", "-S", "-c", question], capture_output=True, text=True
        )
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def is_ready(root: Path, env: Path, extras: set[str], override: str) -> bool:
    """Return whether `env` is complete for this project, without asking pip, GPU or network."""
    stamp = read_stamp(env)
    return (
        stamp is not None
        and stamp.inputs == read_project(root)[0]
        and extras <= set(stamp.extras)
        and (not override or stamp.source == name_source(override))
        and stamp.python == ask_python(env)
    )


@contextmanager
def hold_lock(path: Path) -> Iterator[int]:
    """Hold the install lock, which the system frees if we die, and yield its descriptor."""
    with path.open("a+", encoding="utf-8") as file:
        try:
            if sys.platform == "win32":
                # A locked byte cannot be read, so it lies far behind the process number.
                os.lseek(file.fileno(), 1 << 30, os.SEEK_SET)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
            process = path.read_text(encoding="utf-8").strip() or "unknown"
            raise StudioError(
                f"Another install (process {process}) is at work in {path.parent}. Next: wait until"
                " it is done and start again."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def shorten(line: str) -> str:
    """Return what is worth showing of a line of pip's output, or nothing."""
    if line.startswith(("Collecting ", "Processing ")):
        return "  " + line.split()[1].rpartition("/")[2]
    if line.startswith("Installing collected packages:"):
        return f"  unpacking {line.count(',') + 1} packages"
    if size := re.search(r"Downloading (\S+/)?(\S+) \(((\d{2,}(\.\d+)?) MB|[\d.]+ GB)\)", line):
        return f"    {size[3]}"
    return ""


def explain_failure(output: str, code: int, env: Path) -> str:
    """Return the sentence and next step for what a failed program or the system said."""
    blocks = (block.split("\n", 1) for block in FAILURES.strip().split("\n\n"))
    sentence = next(sentence for sign, sentence in blocks if re.search(sign, output))
    names = {"temp": tempfile.gettempdir(), "env": env, "code": code}
    return sentence.replace("\n", " ").format(python=platform.python_version(), **names)


def run_logged(command: Sequence[str], env: Path, log: Path, lock: int) -> None:
    """Run venv or pip, log all it prints and show the gist; raise StudioError if it fails."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    output = ""
    with log.open("a", encoding="utf-8") as record:
        record.write("$ " + hide_password(shlex.join(command)) + "\n")
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            encoding="utf-8",
            errors="replace",
            # A pip that outlives a killed launcher keeps the lock as long as it writes.
            pass_fds=(lock,) if os.name == "posix" else (),
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                record.write(line)
                record.flush()
                output += line
                if short := shorten(line.strip()):
                    say(short)
    if child.returncode:
        if "ensurepip" in output and "venv" in command:
            raise StudioError(
                "This Python cannot make environments. Next: install its venv part (on Debian and"
                " Ubuntu: sudo apt install python3-venv) or Python from python.org."
            )
        errors = [line for line in output.splitlines() if re.match(r"\s*ERROR", line)]
        last = f"\n  {errors[-1].strip()}" if errors else ""
        raise StudioError(
            f"{explain_failure(output, child.returncode, env)}{last}\n  The whole log: {log}"
        )


def clear_env(env: Path) -> None:
    """Remove the environment; refuse to remove a folder that is something else."""
    if not env.exists():
        return
    if any(env.iterdir()) and not (env / "pyvenv.cfg").exists():
        raise StudioError(
            f"{env} exists and is no Python environment. Next: move it away, or set AIPROD_HOME to"
            " another folder."
        )
    shutil.rmtree(env)


def plan_torch(pin: str, stamp: Stamp | None, override: str) -> Choice:
    """Return the choice of a finished install with the same pin, else choose anew."""
    if not pin:
        return Choice("cpu", "", "not among the pinned packages")
    kept = stamp if stamp and stamp.inputs and stamp.pin == pin else None
    if kept and (not override or kept.source == name_source(override)):
        return Choice(kept.build, kept.source, "as installed before (--repair chooses anew)")
    system = platform.system()
    gpu = Gpu() if override else query_gpu(system)
    choice = choose_torch(system, platform.machine(), gpu, override)
    return settle_index(choice, system, probe_index)


def make_env(env: Path, stamp: Stamp | None, choice: Choice, log: Path, lock: int) -> str:
    """Keep `env` if it can be gone on with, else make it anew; return its Python's version."""
    python = ask_python(env)
    # pip does not replace one build of torch by another of the same version, and an environment
    # that was interrupted while it was made may have no pip.
    other = stamp and stamp.pin and stamp.source != hide_password(choice.source)
    changed = stamp and stamp.python != python
    if not python or other or changed or not (env / "pip-ready").exists():
        clear_env(env)
        check_space(choice, shutil.disk_usage(env.parent).free, 0)
        run_logged([sys.executable, "-m", "venv", str(env)], env, log, lock)
        (env / "pip-ready").touch()
        return ask_python(env)
    held = sum(file.lstat().st_size for file in env.rglob("*"))
    check_space(choice, shutil.disk_usage(env).free, held)
    return python


def install(root: Path, home: Path, extras: set[str], override: str, rebuild: bool) -> None:
    """Make the environment complete, going on where an earlier install stopped."""
    env, log = home / "env", home / "logs" / "install.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(home / "install.lock") as lock:
        if not rebuild and is_ready(root, env, extras, override):
            return
        log.write_text("", encoding="utf-8")
        inputs, pin = read_project(root)
        stamp = None if rebuild else read_stamp(env)
        choice = plan_torch(pin, stamp, override)
        say(f"Installing {NAME}.\nPyTorch: {choice.reason}.\nSize: {describe_size(choice, env)}.")
        if rebuild:
            clear_env(env)
        python = make_env(env, stamp, choice, log, lock)
        wanted = sorted(extras | set(stamp.extras if stamp else ()))
        stamp = Stamp("", python, pin, choice.build, hide_password(choice.source), wanted)
        write_stamp(env, stamp)
        pip = [str(find_python(env)), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
        pip += ["--no-user", "--disable-pip-version-check", "-c", str(root / "constraints.txt")]
        if pin:
            source = ["--extra-index-url", choice.source] if choice.source else []
            run_logged([*pip, *source, "torch"], env, log, lock)
        target = f"{root}[{','.join(wanted)}]" if wanted else str(root)
        run_logged([*pip, "-e", target], env, log, lock)
        write_stamp(env, stamp._replace(inputs=inputs))
        say("Installed.")


# --- the start -----------------------------------------------------------------------------------


def start(python: Path, arguments: Sequence[str]) -> int:
    """Become the environment's Python; on Windows, which cannot, wait for it."""
    command = [str(python), *arguments]
    os.environ.setdefault("PYTHONUTF8", "1")
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    # The child gets Ctrl+C too, and decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.call(command)


def launch(arguments: list[str]) -> int:
    """Do what the arguments ask; return the exit code if the studio does not take over."""
    check_python(sys.version_info[:2])
    root, user = Path(__file__).resolve().parent, Path.home()
    home = find_home(platform.system(), os.environ, user)
    override = os.environ.get("AIPROD_TORCH_INDEX", "").strip()
    asks_help = arguments in (["-h"], ["--help"])
    if asks_help:
        print((__doc__ or "").strip())
        if not is_ready(root, home / "env", set(), override):
            return 0
        print(f"\n--- what {PACKAGE} says ---", flush=True)
    rebuild = arguments[:1] == ["--repair"]
    testing = arguments[rebuild : rebuild + 1] == ["--test"]
    extras = {"test"} if testing else set[str]()
    if rebuild or not is_ready(root, home / "env", extras, override):
        install(root, home, extras, override, rebuild)
        if arguments == ["--repair"]:
            return 0
    rest = arguments[rebuild + testing :]
    if os.environ.get("AIPROD_HOME"):
        os.environ["AIPROD_HOME"] = str(home)
    if testing:
        os.chdir(root)
        return start(find_python(home / "env"), ["-m", "pytest", *rest])
    program = [PACKAGE, *(rest or ["ui"])]
    if rest == ["--shortcut"]:
        program = [f"{PACKAGE}.shortcut", sys.executable, str(root / "launcher.py")]
    # -P: a file of the user's, such as types.py, must not stand in for ours.
    return start(find_python(home / "env"), ["-P", "-m", *program])


def main(arguments: list[str]) -> int:
    """Run the launcher: 2 is a problem the user can mend, else the studio's own exit code."""
    code = 2
    try:
        code = launch(arguments)
    except StudioError as error:
        say(str(error))
    except OSError as error:
        env = find_home(platform.system(), os.environ, Path.home()) / "env"
        say(f"{explain_failure(str(error), 2, env)}\n  {error}")
    except KeyboardInterrupt:
        say("Stopped. Start again to go on where it stopped.")
        code = 130
    if os.name == "nt" and not arguments and sys.stdin and sys.stdin.isatty():
        input("Press Enter to close this window.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
