"""The catalogue's networks at their real widths, with weights of chance and as deep as asked.

Configurations are those of the models' repositories and of diffusers' conversion scripts. What is
built lies on the device and in the precision that torch has as its defaults.
"""

from __future__ import annotations

from typing import Any

import torch

WAN = {
    "wan2.1-1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan2.2-5b": {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30},
    "wan2.2-a14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
}
WAN_VAE_LARGE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
LTX2 = {
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
    "rope_type": "split",
}
LTX2_VAE = {
    "block_out_channels": (256, 512, 1024, 1024),
    "decoder_block_out_channels": (256, 512, 512, 1024),
    "layers_per_block": (4, 6, 4, 2, 2),
    "decoder_layers_per_block": (4, 6, 4, 2, 2),
    "decoder_spatio_temporal_scaling": (True,) * 4,
    "decoder_inject_noise": (False,) * 5,
    "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
    "upsample_residual": (False,) * 4,
    "upsample_factor": (2, 2, 1, 2),
    "decoder_causal": False,
    "decoder_spatial_padding_mode": "zeros",
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
LTX_VAE = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
T5 = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
T5_LAYERS, GEMMA_LAYERS = 24, 48
T5_WORDS = {"umt5": 256_384, "t5": 32_128}
GEMMA_WORDS = 262_208
ENGINES = ("starter", *WAN, "ltx-video-2b", "ltx-2")


def transformer(engine: str, layers: int | None = None) -> Any:
    """Return an engine's denoiser, of so many layers or of all."""
    import diffusers

    if engine in WAN:
        channels = 48 if engine == "wan2.2-5b" else 16
        own = {"in_channels": channels, "out_channels": channels, **WAN[engine]}
        deep = {"num_layers": layers} if layers else {}
        return diffusers.WanTransformer3DModel(**{**own, **deep}).eval()
    kind = {
        "ltx-video-2b": diffusers.LTXVideoTransformer3DModel,
        "ltx-2": diffusers.LTX2VideoTransformer3DModel,
    }[engine]
    own = LTX2 if engine == "ltx-2" else {}
    return kind(**own, **({"num_layers": layers} if layers else {})).eval()


def video_vae(engine: str) -> Any:
    """Return an engine's video VAE."""
    import diffusers

    if engine in WAN:
        return diffusers.AutoencoderKLWan(**(WAN_VAE_LARGE if engine == "wan2.2-5b" else {})).eval()
    if engine == "ltx-2":
        return diffusers.AutoencoderKLLTX2Video(**LTX2_VAE).eval()
    return diffusers.AutoencoderKLLTXVideo(**LTX_VAE).eval()


def audio_vae() -> Any:
    """Return LTX-2's audio VAE."""
    import diffusers

    return diffusers.AutoencoderKLLTX2Audio().eval()


def text_encoder(engine: str, layers: int | None = None, words: int | None = None) -> Any:
    """Return an engine's text encoder, of so many layers and words or of all."""
    import transformers

    if engine == "ltx-2":
        return _gemma(layers or GEMMA_LAYERS, words or GEMMA_WORDS)
    kind = "umt5" if engine in WAN else "t5"
    config_of, model_of = {
        "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel),
        "t5": (transformers.T5Config, transformers.T5EncoderModel),
    }[kind]
    config = config_of(**T5, num_layers=layers or T5_LAYERS, vocab_size=words or T5_WORDS[kind])
    return model_of(config).eval()


def _gemma(layers: int, words: int) -> Any:
    """Return LTX-2's text encoder; its eyes, which nothing uses, are as small as can be."""
    import transformers

    text = transformers.Gemma3TextConfig(
        vocab_size=words,
        hidden_size=3840,
        intermediate_size=15360,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=1024,
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=words - 3,
        eoi_token_index=words - 2,
        image_token_index=words - 1,
    )
    return transformers.Gemma3ForConditionalGeneration(config).eval()


def connectors(layers: int) -> Any:
    """Return what LTX-2 has between a text encoder of so many layers and its denoiser."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    return LTX2TextConnectors(
        caption_channels=3840,
        text_proj_in_factor=layers + 1,
        video_connector_num_attention_heads=32,
        video_connector_attention_head_dim=128,
        video_connector_num_layers=layers,
        audio_connector_num_attention_heads=32,
        audio_connector_attention_head_dim=64,
        audio_connector_num_layers=layers,
        rope_type="split",
        per_modality_projections=True,
        video_hidden_dim=4096,
        audio_hidden_dim=2048,
        proj_bias=True,
        video_gated_attn=True,
        audio_gated_attn=True,
    ).eval()


def latents_shape(engine: str, width: int, height: int, frames: int) -> tuple[int, ...]:
    """Return the shape `[B, C, T, h, w]` of one clip's latents."""
    if engine in WAN:
        channels, side = (48, 16) if engine == "wan2.2-5b" else (16, 8)
        return (1, channels, (frames - 1) // 4 + 1, height // side, width // side)
    return (1, 128, (frames - 1) // 8 + 1, height // 32, width // 32)


def denoiser_inputs(
    engine: str, width: int, height: int, frames: int, tokens: int, batch: int = 1
) -> dict[str, Any]:
    """Return what one evaluation of an engine's denoiser reads, for prompts of `tokens`."""
    _, channels, T, h, w = latents_shape(engine, width, height, frames)
    time = torch.full((batch,), 500.0)
    common = {
        "encoder_hidden_states": torch.randn(batch, tokens, 4096),
        "timestep": time,
        "return_dict": False,
    }
    if engine in WAN:
        if engine == "wan2.2-5b":
            common["timestep"] = time[:, None].expand(batch, T * (h // 2) * (w // 2)).contiguous()
        return {"hidden_states": torch.randn(batch, channels, T, h, w), **common}
    common |= {
        "hidden_states": torch.randn(batch, T * h * w, channels),
        "encoder_attention_mask": torch.ones(batch, tokens),
        "num_frames": T,
        "height": h,
        "width": w,
    }
    if engine == "ltx-video-2b":
        return {**common, "rope_interpolation_scale": (8 / 24, 32, 32)}
    audio = round(frames / 24 * 25)
    return common | {
        "audio_hidden_states": torch.randn(batch, audio, 128),
        "audio_encoder_hidden_states": torch.randn(batch, tokens, 2048),
        "audio_encoder_attention_mask": torch.ones(batch, tokens),
        "sigma": time,
        "fps": 24.0,
        "audio_num_frames": audio,
        "use_cross_timestep": True,
    }
