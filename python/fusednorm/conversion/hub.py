"""KerasHub's own normalization layers, by name: KerasHub itself is never imported.

They are RMS norms over the last axis, each a class of its own for one or a few models.
What differs is the name of epsilon and of the weight, whether one is added to it, and
the dtype of the output. This is as of KerasHub 0.32. Should a version compute something
else, then the comparison of each layer finds it, and the layer is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fusednorm import layers
from fusednorm._keras import keras

Layer = keras.layers.Layer


@dataclass(frozen=True)
class RMSClass:
    """A class that is an RMS norm.

    Attributes:
        epsilon: The attribute that has epsilon, or epsilon itself.
        weights: Our name of the weight, with that of the class if it is another one.
        zero_centered: Whether the class multiplies by one more than its weight.
        scaled: Whether it has a weight; or the attribute that tells.
        float32: Whether the output is float32, whatever the layer computes in.
    """

    epsilon: str | float = "epsilon"
    weights: dict[str, str] = field(default_factory=dict)
    zero_centered: bool = False
    scaled: bool | str = True
    float32: bool = False

    def to_fused(self, layer: Layer) -> layers.RMSNormalization:
        """Returns a layer of ours that computes what one of the class does."""

        def value(attribute: Any) -> Any:
            return (
                getattr(layer, attribute) if isinstance(attribute, str) else attribute
            )

        return layers.RMSNormalization(
            axis=_axis(layer),
            epsilon=value(self.epsilon),
            zero_centered=self.zero_centered,
            with_scale=value(self.scaled),
            pass_mask=layer.supports_masking,
            dtype="float32" if self.float32 else layer.dtype_policy,
        )


def _axis(layer: Layer) -> int:
    # Only MobileNetV5's has a format; it normalizes over channels.
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


_PLAIN = RMSClass()
_ZERO_CENTERED = RMSClass(zero_centered=True)

RULES = {
    f"keras_hub.src.{name}": rule
    for name, rule in {
        "layers.modeling.rms_normalization.RMSNormalization": RMSClass(
            epsilon=1e-6, float32=True
        ),
        "models.edrec.edrec_layers.EdRecRMSNormalization": _ZERO_CENTERED,
        "models.gemma.rms_normalization.RMSNormalization": _ZERO_CENTERED,
        "models.gemma3.gemma3_layers.RMSNormalization": _ZERO_CENTERED,
        "models.gemma3n.rms_normalization.Gemma3nRMSNorm": RMSClass(
            epsilon="eps", scaled="with_scale"
        ),
        "models.gemma4.gemma4_layers.Gemma4FrozenNorm": _PLAIN,
        "models.gemma4.gemma4_layers.Gemma4VNorm": RMSClass(scaled=False),
        "models.gemma4.gemma4_layers.RMSNormalization": _PLAIN,
        "models.gpt_oss.gpt_oss_layer_norm.GptOssLayerNormalization": _PLAIN,
        "models.llama.llama_layernorm.LlamaLayerNorm": _PLAIN,
        "models.mistral.mistral_layer_norm.MistralLayerNormalization": _PLAIN,
        "models.mixtral.mixtral_layer_norm.MixtralLayerNormalization": _PLAIN,
        "models.mobilenetv5.mobilenetv5_layers.RmsNorm2d": RMSClass(
            epsilon="eps", weights={"scale": "gamma"}
        ),
        "models.phi3.phi3_layernorm.Phi3LayerNorm": _PLAIN,
        "models.qwen.qwen_layernorm.QwenLayerNorm": _PLAIN,
        "models.qwen3.qwen3_layernorm.Qwen3LayerNorm": _PLAIN,
        "models.qwen3_5.qwen3_5_layers.Qwen3_5LayerNorm": _ZERO_CENTERED,
        "models.qwen3_5.qwen3_5_layers.Qwen3_5RMSNormGated": _PLAIN,
        "models.qwen3_moe.qwen3_moe_layernorm.Qwen3MoeLayerNorm": _PLAIN,
        "models.qwen_moe.qwen_moe_layernorm.QwenMoeLayerNorm": _PLAIN,
        "models.roformer_v2.roformer_v2_attention.RoformerNorm": _PLAIN,
        "models.t5.t5_layer_norm.T5LayerNorm": RMSClass(weights={"scale": "weight"}),
    }.items()
}
