"""Tiny pipelines of the real classes with random weights, made without a network, for tests.

`build(kind)` returns a pipeline of diffusers and what to call it with; kinds are the keys of
`KINDS`. A pipeline takes a tenth of a second to make, save, load and run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Every guidance of LTX-2 that is on by default, switched off.
UNGUIDED = {
    "guidance_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
    "spatio_temporal_guidance_blocks": None,
}
WORDS = [
    "a",
    "the",
    "of",
    "and",
    "in",
    "on",
    "with",
    "red",
    "fox",
    "robot",
    "dancing",
    "running",
    "cat",
    "dog",
    "video",
    "sunset",
    "ocean",
]
Built = tuple[Any, dict[str, Any]]


def build(kind: str) -> Built:
    """Return a pipeline and the arguments of a short call of it."""
    return KINDS[kind]()


def save(kind: str, folder: Path) -> Path:
    """Save a pipeline to a folder, as its repository on the Hub would be, and return the folder."""
    from diffusers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    build(kind)[0].save_pretrained(folder, safe_serialization=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, as a loopback hub takes them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _seeded(make: Callable[[], Any]) -> Any:
    """Return a network with the weights of seed 0; a built one starts in training mode."""
    torch.manual_seed(0)
    return make().eval()


def _gemma_tokenizer() -> tuple[Any, int]:
    from transformers import GemmaTokenizer

    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    for name in (*names, *"▁abcdefghijklmnopqrstuvwxyz0123456789.,"):
        vocabulary.setdefault(name, len(vocabulary))
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=64)
    return tokenizer, len(vocabulary) + 8


def _t5_tokenizer() -> tuple[Any, int]:
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + word, -3.0) for word in WORDS]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces += [(letter, -6.0) for letter in f"{letters}{letters.upper()}0123456789.,!?'-"]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=64), len(pieces) + 4


def _t5_settings(words: int) -> dict[str, Any]:
    return {
        "vocab_size": words,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _t5_encoder(words: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return _seeded(lambda: T5EncoderModel(T5Config(**_t5_settings(words))))


def _umt5_encoder(words: int) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    return _seeded(lambda: UMT5EncoderModel(UMT5Config(**_t5_settings(words))))


def _gemma_encoder(words: int) -> Any:
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    text = Gemma3TextConfig(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
        sliding_window=64,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    vision = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=words - 3,
        eoi_token_index=words - 2,
        image_token_index=words - 1,
    )
    return _seeded(lambda: Gemma3ForConditionalGeneration(config))


def _wan_transformer(channels: int = 16) -> Any:
    from diffusers import WanTransformer3DModel

    return _seeded(
        lambda: WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=channels,
            out_channels=16,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=3,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=64,
        )
    )


def _wan_vae(large: bool = False) -> Any:
    from diffusers import AutoencoderKLWan

    common = {
        "base_dim": 3,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }
    if large:  # 16 pixels a latent's side, as in Wan 2.2 5B
        common |= {
            "in_channels": 12,
            "out_channels": 12,
            "is_residual": True,
            "patch_size": 2,
            "latents_mean": [0.1] * 16,
            "latents_std": [1.5] * 16,
            "scale_factor_spatial": 16,
            "scale_factor_temporal": 4,
        }
    return _seeded(lambda: AutoencoderKLWan(**common))


def build_wan(kind: str = "wan") -> Built:
    """Return Wan 2.1 1.3B ("wan"), 2.2 5B ("wan5b") or 2.2 A14B ("wan14b", "wan14b-image")."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline

    tokenizer, words = _t5_tokenizer()
    image, two, large = kind == "wan14b-image", kind.startswith("wan14b"), kind == "wan5b"
    channels = 36 if image else 16
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": _umt5_encoder(words),
        "vae": _wan_vae(large),
        "transformer": _wan_transformer(channels),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            num_train_timesteps=1000,
            flow_shift=3.0,
        ),
    }
    more: dict[str, Any] = {"expand_timesteps": True} if large else {}
    if two:
        second = _wan_transformer(channels)
        with torch.no_grad():
            second.proj_out.weight.mul_(0.5)
        more = {"transformer_2": second, "boundary_ratio": 0.9 if image else 0.875}
    pipeline = (WanImageToVideoPipeline if image else WanPipeline)(**parts, **more)
    side = 64 if large else 32
    call = {"height": side, "width": side, "num_frames": 9, "num_inference_steps": 2}
    return pipeline, {**_called(call), "guidance_scale": 5.0}


def build_ltx() -> Built:
    """Return LTX-Video."""
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel

    tokenizer, words = _t5_tokenizer()
    transformer = _seeded(
        lambda: LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=32,
        )
    )
    scaling = (True, True, False, False)
    vae = _seeded(
        lambda: AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=scaling,
            decoder_spatio_temporal_scaling=scaling,
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4,
            timestep_conditioning=False,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        )
    )
    pipeline = LTXPipeline(
        scheduler=_ltx_scheduler(),
        vae=vae,
        text_encoder=_t5_encoder(words),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    call = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 2, "frame_rate": 24}
    return pipeline, {**_called(call), "guidance_scale": 3.0}


def _ltx_scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )


def build_ltx2(newer: bool = False) -> Built:
    """Return LTX-2.0, or with `newer` the architecture of 2.3 and 2.5."""
    from diffusers import LTX2Pipeline

    tokenizer, words = _gemma_tokenizer()
    pipeline = LTX2Pipeline(
        scheduler=_ltx_scheduler(),
        vae=_ltx2_vae(),
        audio_vae=_ltx2_audio_vae(),
        text_encoder=_gemma_encoder(words),
        tokenizer=tokenizer,
        connectors=_ltx2_connectors(newer),
        transformer=_ltx2_transformer(newer),
        vocoder=_ltx2_vocoder(newer),
    )
    call = {
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "num_inference_steps": 2,
        "frame_rate": 24.0,
        "use_cross_timestep": newer,
    }
    return pipeline, {**_called(call), **UNGUIDED}


def _ltx2_transformer(newer: bool) -> Any:
    from diffusers import LTX2VideoTransformer3DModel

    more: dict[str, Any] = {}
    if newer:
        more = {
            "gated_attn": True,
            "cross_attn_mod": True,
            "audio_gated_attn": True,
            "audio_cross_attn_mod": True,
            "use_prompt_embeddings": False,
            "perturbed_attn": True,
        }
    return _seeded(
        lambda: LTX2VideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            num_layers=2,
            caption_channels=16,
            rope_double_precision=False,
            rope_type="split",
            **more,
        )
    )


def _ltx2_vae() -> Any:
    from diffusers import AutoencoderKLLTX2Video

    return _seeded(
        lambda: AutoencoderKLLTX2Video(
            latent_channels=4,
            block_out_channels=(8,),
            decoder_block_out_channels=(8,),
            layers_per_block=(1,),
            decoder_layers_per_block=(1, 1),
            spatio_temporal_scaling=(True,),
            decoder_spatio_temporal_scaling=(True,),
            decoder_inject_noise=(False, False),
            downsample_type=("spatial",),
            upsample_residual=(False,),
            upsample_factor=(1,),
            patch_size=1,
            patch_size_t=1,
            decoder_causal=False,
        )
    )


def _ltx2_audio_vae() -> Any:
    from diffusers import AutoencoderKLLTX2Audio

    return _seeded(
        lambda: AutoencoderKLLTX2Audio(
            base_channels=4,
            ch_mult=(1,),
            num_res_blocks=1,
            resolution=32,
            latent_channels=2,
            mel_bins=8,
            sample_rate=16000,
            mel_hop_length=160,
        )
    )


def _ltx2_connectors(newer: bool) -> Any:
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    heads = {
        "video_connector_num_attention_heads": 2,
        "video_connector_attention_head_dim": 8,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 4 if newer else 8,
    }
    more: dict[str, Any] = {}
    if newer:
        more = {
            "per_modality_projections": True,
            "video_hidden_dim": 16,
            "audio_hidden_dim": 8,
            "proj_bias": True,
            "video_gated_attn": True,
            "audio_gated_attn": True,
        }
    return _seeded(
        lambda: LTX2TextConnectors(
            caption_channels=16,
            text_proj_in_factor=3,
            video_connector_num_layers=1,
            video_connector_num_learnable_registers=None,
            audio_connector_num_layers=1,
            audio_connector_num_learnable_registers=None,
            connector_rope_base_seq_len=32,
            rope_double_precision=False,
            rope_type="split",
            **heads,
            **more,
        )
    )


def _ltx2_vocoder(newer: bool) -> Any:
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    common = {
        "in_channels": 16,
        "out_channels": 2,
        "hidden_channels": 32,
        "resnet_kernel_sizes": [3],
        "resnet_dilations": [[1, 3, 5]],
    }
    if not newer:
        return _seeded(
            lambda: LTX2Vocoder(
                **common,
                upsample_kernel_sizes=[20, 12, 4],
                upsample_factors=[10, 6, 4],
                leaky_relu_negative_slope=0.1,
                output_sampling_rate=24000,
            )
        )
    return _seeded(
        lambda: LTX2VocoderWithBWE(
            **common,
            upsample_kernel_sizes=[10, 8, 8],
            upsample_factors=[10, 4, 4],
            bwe_in_channels=16,
            bwe_hidden_channels=32,
            bwe_out_channels=2,
            bwe_upsample_kernel_sizes=[12, 8, 10],
            bwe_upsample_factors=[6, 4, 10],
            bwe_resnet_kernel_sizes=[3],
            bwe_resnet_dilations=[[1, 3, 5]],
            filter_length=64,
            hop_length=80,
            window_length=64,
            num_mel_channels=8,
            input_sampling_rate=16000,
            output_sampling_rate=48000,
        )
    )


def _called(more: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": "a red fox running", "negative_prompt": "", "output_type": "np", **more}


KINDS: dict[str, Callable[[], Built]] = {
    "wan": build_wan,
    "wan5b": lambda: build_wan("wan5b"),
    "wan14b": lambda: build_wan("wan14b"),
    "wan14b-image": lambda: build_wan("wan14b-image"),
    "ltx": build_ltx,
    "ltx2": build_ltx2,
    "ltx2-newer": lambda: build_ltx2(newer=True),
}
