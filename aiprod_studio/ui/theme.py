"""The look: a theme of our own, dark and light, with the fonts that the system has."""

from __future__ import annotations

import json

import gradio as gr

from aiprod_studio.ui.sheets import read_script
from aiprod_studio.ui.texts import Texts

ACCENT = gr.themes.Color(
    name="iris",
    c50="#eef2ff",
    c100="#e0e5ff",
    c200="#c6ceff",
    c300="#a5b0fb",
    c400="#818cf4",
    c500="#6366e6",
    c600="#4f4fd0",
    c700="#4240ab",
    c800="#363688",
    c900="#2f306c",
    c950="#1c1c40",
)
INK = gr.themes.Color(
    name="ink",
    c50="#f8f9fb",
    c100="#f0f2f6",
    c200="#e1e5ec",
    c300="#c6ccd8",
    c400="#949db0",
    c500="#656e83",
    c600="#4b5367",
    c700="#363d4f",
    c800="#222836",
    c900="#171b26",
    c950="#0f121a",
)
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build_theme() -> gr.themes.Base:
    """Return the theme; nothing in it is loaded from the net."""
    theme = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=INK,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        link_text_color_dark="*primary_300",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_shadow="none",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="500",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
    )


def build_head(say: Texts) -> str:
    """Return what the page's head gets: the style sheet, the script and the language."""
    told = {"language": say.language, "direction": say.direction}
    return (
        f"<style>{read_script('studio.css')}</style>"
        f"<script>window.studio = {json.dumps(told)};\n{read_script('studio.js')}</script>"
    )
