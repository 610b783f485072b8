"""Small backbones of KerasHub, one of each architecture, to test the conversion on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import keras_hub
import numpy as np

# What backbones take under these names, unless said otherwise.
_USUAL = {
    "vocabulary_size": 40,
    "vocab_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_query_heads": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "embedding_dim": 16,
    "intermediate_dim": 48,
    "moe_intermediate_dim": 16,
    "shared_expert_intermediate_dim": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 2,
    "top_k": 1,
    "head_dim": 8,
    "dropout": 0.0,
    "mlp_dim": 48,
    "patch_size": 4,
    "image_shape": (16, 16, 3),
    "image_size": 16,
}
_LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_ENCODER_DECODER = {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": 32,
        "intermediate_dim": 48,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["full_attention", "full_attention"],
    }.items()
}
# By the name of the class, without "Backbone": what differs from the usual.
_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "Albert": {},
    "Bart": {},
    "Bert": {},
    "Bloom": {},
    "DINOV2": {"position_embedding_shape": (16, 16, 3)},
    "DINOV3": {},
    "DebertaV3": {},
    "DeiT": {},
    "DistilBert": {},
    "EdRec": {"num_layers_enc": 1, "num_layers_dec": 1},
    "Electra": {},
    "ESM2": {"use_pre_layer_norm": True},
    "FNet": {},
    "Falcon": {},
    "Flux": {
        "input_channels": 16,
        "hidden_size": 32,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [4, 6, 6],
        "theta": 10_000,
        "use_bias": True,
        "image_shape": (6, 16),
        "text_shape": (5, 16),
        "image_ids_shape": (6, 3),
        "text_ids_shape": (5, 3),
        "y_shape": (16,),
    },
    "GPT2": {},
    "GPTNeoX": {},
    "Gemma": {"use_post_ffw_norm": True, "use_post_attention_norm": True},
    "Gemma3": {"use_post_ffw_norm": True, "use_post_attention_norm": True},
    "Gemma3n": {
        "text_vocab_size": 40,
        "text_hidden_size": 32,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        "intermediate_size": [48],
        "hidden_activation": "gelu_approximate",
        "layer_types": ["full_attention"],
        "sliding_window": 4,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 32,
        "vocab_size_per_layer_input": 40,
        "hidden_size_per_layer_input": 8,
        "altup_num_inputs": 2,
        "laurel_rank": 4,
    },
    "Gemma4": {},
    "GptOss": {"top_k": 2},
    "Llama": {},
    "Llama3": {},
    "MiT": {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.0,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
    },
    "Mistral": {},
    "Mixtral": {},
    "MobileNetV5": {
        "stackwise_block_types": [["er"], ["uir", "mqa"]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [16, 16]],
        "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[4.0], [6.0, 1.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 0]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]],
        "stackwise_num_heads": [[0], [0, 2]],
        "stackwise_key_dims": [[0], [0, 8]],
        "stackwise_value_dims": [[0], [0, 8]],
        "stackwise_kv_strides": [[0], [0, 1]],
        "stackwise_use_cpe": [[False], [False, False]],
        "image_shape": (32, 32, 3),
        "use_msfa": False,
    },
    "Moonshine": {
        "filter_dim": 32,
        "encoder_num_layers": 1,
        "decoder_num_layers": 1,
        "encoder_num_heads": 4,
        "decoder_num_heads": 4,
    },
    "OPT": {},
    "Phi3": {},
    "Qwen": {},
    "Qwen3": {},
    "Qwen3Moe": {},
    "Qwen3_5": _LINEAR_ATTENTION,
    "Qwen3_5Moe": _LINEAR_ATTENTION,
    "QwenMoe": {},
    "RWKV7": {
        "hidden_size": 32,
        "head_size": 8,
        "gate_lora": 8,
        "mv_lora": 8,
        "aaa_lora": 8,
        "decay_lora": 8,
    },
    "Roberta": {},
    "RoformerV2": {"head_size": 8},
    "SmolLM3": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_layer_enabled_list": [True, False],
        "layer_types": ["full_attention", "full_attention"],
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 32,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
    },
    "SwinTransformer": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 2,
        "drop_path": 0.0,
        "image_shape": (32, 32, 3),
    },
    "T5": {},
    "T5Gemma": _ENCODER_DECODER,
    "ViT": {},
    "ViTDet": {
        "hidden_size": 16,
        "global_attention_layer_indices": [1],
        "image_shape": (32, 32, 3),
        "patch_size": 8,
        "num_output_channels": 8,
        "window_size": 2,
    },
    "Whisper": {"max_encoder_sequence_length": 16, "max_decoder_sequence_length": 8},
    "XLMRoberta": {},
    "XLNet": {},
}


def _clip_text() -> Any:
    return keras_hub.models.CLIPTextEncoder(
        vocabulary_size=40,
        embedding_dim=16,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
        max_sequence_length=8,
    )


def _clip() -> Any:
    return keras_hub.models.CLIPBackbone(
        keras_hub.models.CLIPVisionEncoder(
            patch_size=4,
            hidden_dim=16,
            num_layers=1,
            num_heads=2,
            intermediate_dim=32,
            image_shape=(16, 16, 3),
        ),
        _clip_text(),
        projection_dim=8,
    )


def _sam() -> Any:
    return keras_hub.models.SAMBackbone(
        image_encoder=backbone("ViTDet"),
        prompt_encoder=keras_hub.layers.SAMPromptEncoder(
            hidden_size=8,
            image_embedding_size=(4, 4),
            input_image_size=(32, 32),
            mask_in_channels=8,
        ),
        mask_decoder=keras_hub.layers.SAMMaskDecoder(
            num_layers=1,
            hidden_size=8,
            intermediate_dim=16,
            num_heads=2,
            embedding_dim=8,
            iou_head_hidden_dim=8,
        ),
    )


# Those that are made of others.
_COMPOSED: dict[str, Callable[[], Any]] = {"CLIP": _clip, "SAM": _sam}
NAMES = sorted({**_CONFIGURATIONS, **_COMPOSED})


def backbone(name: str) -> Any:
    """Returns a new backbone of random weights, by the name of its class."""
    if name in _COMPOSED:
        return _COMPOSED[name]()
    cls = getattr(keras_hub.models, f"{name}Backbone")
    taken = inspect.signature(cls.__init__).parameters
    usual = {key: value for key, value in _USUAL.items() if key in taken}
    return cls(**(usual | _CONFIGURATIONS[name]))


def random_inputs(model: Any) -> Any:
    """Returns inputs that a backbone takes, with two padded positions."""
    rng = np.random.default_rng(0)

    def one(name: str, spec: Any) -> np.ndarray:
        # Images of 32 by 32, sound of 1024 samples, sequences of 8.
        channels = tuple(spec.shape[2:])
        unknown = 1024 if channels == (1,) else 32 if channels == (None, 3) else 8
        shape = [2, *(unknown if size is None else size for size in spec.shape[1:])]
        if "float" in spec.dtype:
            return rng.normal(size=shape).astype("float32")
        if "mask" in name:
            kept = np.arange(shape[1]) < np.array([[shape[1]], [shape[1] - 2]])
            return kept.astype(spec.dtype)
        high = 2 if "segment" in name else 30
        return rng.integers(0, high, shape).astype(spec.dtype)

    symbols = model.input
    if isinstance(symbols, dict):
        return {name: one(name, spec) for name, spec in symbols.items()}
    return keras.tree.map_structure(lambda spec: one(spec.name, spec), symbols)
