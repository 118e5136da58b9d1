"""SAM and SAM 2 with random weights, narrow enough for tests, saved as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamModel,
)

SIDE = 64
PATCH = 16
MASK_SIDE = 4 * SIDE // PATCH
WIDTH = 16
PROMPTS = {
    "hidden_size": WIDTH,
    "image_size": SIDE,
    "patch_size": PATCH,
    # A quarter of these are normalised together; of one, nothing of the mask would be left.
    "mask_input_channels": 16,
}
DECODER = {"hidden_size": WIDTH, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
# What the image processors of both are published with.
PROCESSOR = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 1 / 255,
    "resample": 2,
}


def sam() -> SamModel:
    """A SAM that takes 64x64 pixels and mask prompts of 16x16, seeded."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": 8,
        "output_channels": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "window_size": 2,
        "global_attn_indexes": [0],
        "num_pos_feats": WIDTH // 2,
        "initializer_range": 0.02,
    }
    return _roused(
        SamModel(
            SamConfig(
                vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER
            )
        )
    )


def sam2() -> Sam2Model:
    """A SAM 2 of the same sizes."""
    torch.manual_seed(0)
    return _roused(Sam2Model(Sam2Config(**_sam2_parts())))


def sam2_video() -> Sam2VideoModel:
    """A SAM 2 with its memory, as Meta publishes it."""
    torch.manual_seed(0)
    return _roused(
        Sam2VideoModel(
            Sam2VideoConfig(
                **_sam2_parts(),
                image_size=SIDE,
                memory_attention_hidden_size=WIDTH,
                memory_attention_num_layers=1,
                memory_attention_feed_forward_hidden_size=16,
                memory_attention_rope_feat_sizes=[SIDE // PATCH] * 2,
                memory_encoder_hidden_size=WIDTH,
                memory_encoder_output_channels=8,
                mask_downsampler_embed_dim=WIDTH,
                memory_fuser_num_layers=1,
                memory_fuser_embed_dim=WIDTH,
                memory_fuser_intermediate_dim=16,
            )
        )
    )


def _sam2_parts() -> dict[str, Any]:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        "fpn_hidden_size": WIDTH,
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": PROMPTS,
        "mask_decoder_config": DECODER,
    }


def _roused(model: Any) -> Any:
    """Draw weights large enough that masks have shapes, and that prompts change them."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "positional" not in name:
                torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def save(model: PreTrainedModel, folder: Path) -> Path:
    """Write a model and the settings of its image processor."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder
