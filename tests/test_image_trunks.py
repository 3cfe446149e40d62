"""Image trunks: every kind by name and from a folder saved here, through the same path; DropKey; nothing unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from regen.encoders.image_sources import load_weights, plan_trunk
from regen.encoders.image_trunks import Trunk, TrunkPlan, build_trunk
from regen.errors import ConfigError

SMALL = {"width": 64, "depth": 1, "heads": 2, "drop_path": 0.0}
TINY_VIT: dict[str, Any] = {"img_size": 32, "embed_dim": 64, "depth": 1, "num_heads": 2}


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, size, size, generator=torch.Generator().manual_seed(0))


def save_timm(folder: Path) -> torch.nn.Module:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **TINY_VIT)
    folder.mkdir()
    stored = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": TINY_VIT,
        "pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": [3, 32, 32]},
    }
    (folder / "config.json").write_text(json.dumps(stored))
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


def save_open_clip(folder: Path, timm_model: bool = False) -> torch.nn.Module:
    import open_clip

    vision: dict[str, Any] = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    if timm_model:
        vision = {"image_size": 32, "timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear"}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1}}
    model = open_clip.CLIP(**{k: v for k, v in config.items()})
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.3] * 3, "std": [0.4] * 3}}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model.visual


def save_hf(folder: Path, kind: str) -> torch.nn.Module:
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 16}
    if kind == "clip":
        text = {k: v for k, v in shape.items() if k not in ("image_size", "patch_size")} | {"vocab_size": 32}
        model: Any = transformers.CLIPModel(transformers.CLIPConfig(vision_config=shape, text_config=text, projection_dim=16))
    elif kind == "resnet":
        model = transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    else:
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **shape))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return getattr(model, "vision_model", model).eval()


def loaded(name: str, size: int) -> tuple[TrunkPlan, Trunk]:
    """Built from a folder, with its weights."""
    plan = plan_trunk(name, size, True)
    trunk = build_trunk(plan).eval()
    load_weights(trunk)
    return plan, trunk


@pytest.mark.parametrize("name", ["small", "timm:vit_tiny_patch16_224", "timm:resnet10t", "timm:convnext_atto", "open_clip:ViT-S-32-alt"])
def test_a_name_gives_tokens_of_any_image_size(name: str) -> None:
    options = SMALL if name == "small" else {}
    trunk = build_trunk(plan_trunk(name, 64, False, **options)).eval()
    with torch.no_grad():
        tokens = trunk(images(64))
        assert (tokens.shape[0], tokens.shape[2]) == (2, trunk.width)
        assert tokens.shape[1] >= 4
        assert trunk(images(80)).shape == tokens.shape
        assert not torch.equal(tokens[0], tokens[1])


def test_the_plan_alone_rebuilds_the_trunk(tmp_path: Path) -> None:
    save_timm(tmp_path / "t")
    for name in ("small", "timm:resnet10t", f"timm:{tmp_path / 't'}", "open_clip:ViT-S-32-alt"):
        plan = plan_trunk(name, 32, False, **(SMALL if name == "small" else {}))
        trunk = build_trunk(plan).eval()
        stored = json.loads(json.dumps(plan.to_dict()))
        again = build_trunk(TrunkPlan.from_dict(stored)).eval()
        again.load_state_dict(trunk.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(again(images(32)), trunk(images(32)))


def test_timm_from_a_folder(tmp_path: Path) -> None:
    model = save_timm(tmp_path / "m").eval()
    plan, trunk = loaded(f"timm:{tmp_path / 'm'}", 64)
    assert (plan.size, plan.mean) == (32, (0.1, 0.1, 0.1))
    x = (images(32)[:, None].repeat(1, 3, 1, 1) - 0.1) / 0.2
    with torch.no_grad():
        torch.testing.assert_close(trunk(images(32)), model.forward_features(x)[:, 1:])


@pytest.mark.parametrize("timm_model", [False, True])
def test_open_clip_from_a_folder_without_its_text_tower(tmp_path: Path, timm_model: bool) -> None:
    visual = save_open_clip(tmp_path / "m", timm_model).eval()
    _, trunk = loaded(f"open_clip:{tmp_path / 'm'}", 64)
    x = (images(32)[:, None].repeat(1, 3, 1, 1) - 0.3) / 0.4
    with torch.no_grad():
        tokens = trunk(images(32))
        if timm_model:
            torch.testing.assert_close(tokens, visual.trunk.forward_features(x).flatten(2).transpose(1, 2))
        else:
            torch.testing.assert_close(
                tokens.mean(1), visual.forward_intermediates(x, 1, normalize_intermediates=True)["image_intermediates"][0].mean((2, 3))
            )


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip", "resnet"])
def test_hugging_face_from_a_folder(tmp_path: Path, kind: str) -> None:
    model = save_hf(tmp_path / "m", kind).eval()
    plan, trunk = loaded(f"hf:{tmp_path / 'm'}", 32)
    x = (images(32)[:, None].repeat(1, 3, 1, 1) - 0.5) / 0.25
    size = plan.size
    if size != 32:
        x = torch.nn.functional.interpolate(images(32)[:, None], size=(size, size), mode="bilinear", antialias=True).repeat(1, 3, 1, 1)
        x = (x - 0.5) / 0.25
    with torch.no_grad():
        states = model(pixel_values=x).last_hidden_state
        wanted = states[:, 1:] if states.ndim == 3 else states.flatten(2).transpose(1, 2)
        torch.testing.assert_close(trunk(images(32)), wanted)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    save_timm(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    for name, pretrained, message in (
        ("vit", False, "expected small, timm:NAME"), ("tim:x", False, "did you mean 'timm'"), ("timm:vit_tiny_patch16_225", False, "did you mean"),
        ("open_clip:ViT-B-61", False, "unknown open_clip model"), ("open_clip:ViT-S-32-alt", True, "is an architecture"),
        (f"timm:{tmp_path / 'no'}", True, "config.json"), (f"timm:{tmp_path / 'm'}", True, "nothing is unpickled"),
        (f"hf:{tmp_path / 'no'}", False, "could not load"), ("small", True, "no pretrained weights"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            plan_trunk(name, 32, pretrained, **(SMALL if name == "small" else {}))


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_timm(tmp_path / "m")
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(192, 64)}, tmp_path / "m" / "model.safetensors")
    trunk = build_trunk(plan_trunk(f"timm:{tmp_path / 'm'}", 32, True))
    with pytest.raises(ConfigError, match="are missing"):
        load_weights(trunk)


@pytest.mark.parametrize("name", ["small", "timm:vit_tiny_patch16_224"])
def test_drop_key_changes_training_and_nothing_else(name: str) -> None:
    trunk = build_trunk(plan_trunk(name, 32, False, **(SMALL if name == "small" else {})))
    before = trunk.eval()(images(32))
    trunk.drop_keys(0.5)
    torch.testing.assert_close(trunk.eval()(images(32)), before)
    trunk.train()
    assert not torch.equal(trunk(images(32)), trunk(images(32)))
    with pytest.raises(ConfigError, match="set drop_key=0"):
        build_trunk(plan_trunk("timm:resnet10t", 32, False)).drop_keys(0.1)


@pytest.mark.parametrize("name", ["small", "timm:vit_tiny_patch16_224", "open_clip:ViT-S-32-alt"])
def test_checkpointing_gives_the_same_gradients(name: str) -> None:
    trunk = build_trunk(plan_trunk(name, 32, False, **(SMALL if name == "small" else {}))).train()
    gradients = []
    for _ in range(2):
        trunk.zero_grad()
        trunk(images(32)).square().mean().backward()
        gradients.append([p.grad.clone() for p in trunk.parameters() if p.grad is not None])
        trunk.checkpointing()
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
