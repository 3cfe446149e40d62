"""What a name in a recipe means: which vision model, and where its weights lie.

    plan = plan_trunk("timm:vit_small_patch16_224", pixels=96, pretrained=False)
    trunk = build_trunk(plan)
    load_weights(trunk)                                does nothing where random weights were asked for

    small                                              a convolutional stem and transformer blocks
    timm:NAME   timm:hf_hub:ORG/NAME   timm:FOLDER     FOLDER as timm saves it: config.json, model.safetensors
    open_clip:NAME   open_clip:hf-hub:ORG/NAME   open_clip:FOLDER     open_clip_config.json, open_clip_model.safetensors
    hf:ORG/NAME   hf:FOLDER                            config.json, model.safetensors

Weights come from safetensors or not at all; the network is used only where a hub name was given and pretrained weights were asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from regen.encoders.hub import load_pretrained, quiet
from regen.encoders.image_trunks import HALF, Trunk, TrunkPlan, vision_part
from regen.errors import ConfigError, did_you_mean

KINDS = ("small", "timm", "open_clip", "hf")


def plan_trunk(name: str, pixels: int, pretrained: bool, **small: Any) -> TrunkPlan:
    """What a name in a recipe means.

    pixels: side of the images it will see; a pretrained model keeps the side it was trained with and images are scaled to it.
    small: width, depth, heads and drop_path, for 'small' alone.

    Raises:
        ConfigError: an unknown kind or model, a folder without config or safetensors, pretrained weights for 'small'.
    """
    kind, _, rest = name.partition(":")
    if kind not in KINDS or (kind != "small" and not rest):
        raise ConfigError(f"cxr: expected small, timm:NAME, open_clip:NAME or hf:NAME, got {name!r}{did_you_mean(kind, KINDS)}")
    if kind == "small":
        if pretrained:
            raise ConfigError("cxr: 'small' has no pretrained weights; set cxr_weights=random, or name a timm, open_clip or hf model")
        return TrunkPlan("small", {"size": pixels, **small}, pixels)
    try:
        with quiet():
            return {"timm": _plan_timm, "open_clip": _plan_open_clip, "hf": _plan_hf}[kind](rest, pixels, pretrained)
    except ConfigError:
        raise
    except Exception as error:  # the libraries raise what they like for an unknown name, a cut file, or a hub that cannot be reached
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"cxr: expected a model that {kind} knows, could not load {rest!r} ({reason})") from error


def load_weights(trunk: Trunk) -> None:
    """Fill a trunk with the weights its plan names.

    Raises:
        ConfigError: the file lacks weights that the model needs.
    """
    path = trunk.plan.weights
    if path is None:
        return
    if trunk.plan.kind == "hf":
        state = vision_part(load_pretrained("AutoModel", path, "cxr", dtype=torch.float32)).state_dict()
    else:
        state = load_file(path)
        if trunk.plan.kind == "open_clip":
            state = {n.removeprefix("visual."): v for n, v in state.items() if n.startswith("visual.")}
    missing, _ = trunk.model.load_state_dict(state, strict=False)
    absent = [n for n in missing if "head" not in n and "pooler" not in n]
    if absent:
        raise ConfigError(f"cxr: expected all weights of {trunk.plan.kind} in {path}, {len(absent)} are missing ({absent[0]}); give its own file")


def _plan_timm(rest: str, pixels: int, pretrained: bool) -> TrunkPlan:
    import timm
    from timm.models import load_model_config_from_hf

    folder = Path(rest)
    args: dict[str, Any] = {}
    if folder.is_dir():
        stored = json.loads((folder / "config.json").read_text())
        architecture, cfg, args = stored["architecture"], stored.get("pretrained_cfg", {}), stored.get("model_args", {})
    elif rest.startswith("hf_hub:"):
        cfg, architecture, args = load_model_config_from_hf(rest.removeprefix("hf_hub:"))
    else:
        architecture = rest
        if not timm.is_model(rest.split(".")[0]):
            raise ConfigError(
                f"cxr: unknown timm model {rest!r}{did_you_mean(rest, timm.list_models())}; expected a name that timm.list_models() has"
            )
        default = timm.get_pretrained_cfg(rest)
        cfg = default.to_dict() if default else {}
    args = {k: v for k, v in (args or {}).items() if k != "num_classes"}
    size = int(args.get("img_size") or cfg.get("input_size", (3, 224, 224))[1])
    weights = _weights(folder, "model.safetensors", rest.removeprefix("hf_hub:") if rest.startswith("hf_hub:") else cfg.get("hf_hub_id"), pretrained)
    if not pretrained and pixels != size:
        size, args = _resized(architecture, pixels, args)
    return TrunkPlan("timm", {"architecture": architecture, "args": args}, size, *_statistics(cfg), weights)


def _resized(architecture: str, pixels: int, args: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A transformer is told its image's side; a convolutional model takes any."""
    import timm

    try:
        timm.create_model(architecture, pretrained=False, num_classes=0, **args | {"img_size": pixels})
    except TypeError:
        return pixels, args
    return pixels, args | {"img_size": pixels}


def _plan_open_clip(rest: str, pixels: int, pretrained: bool) -> TrunkPlan:
    import open_clip

    folder, hub = Path(rest), rest.removeprefix("hf-hub:") if rest.startswith("hf-hub:") else None
    if folder.is_dir() or hub:
        path = folder / "open_clip_config.json" if folder.is_dir() else Path(_from_hub(str(hub), "open_clip_config.json"))
        stored = json.loads(path.read_text())
        model, preprocess = stored["model_cfg"], stored.get("preprocess_cfg", {})
    else:
        model, preprocess = open_clip.get_model_config(rest), {}
        if model is None:
            raise ConfigError(f"cxr: unknown open_clip model {rest!r}{did_you_mean(rest, open_clip.list_models())}")
        if pretrained:
            raise ConfigError(f"cxr: open_clip:{rest} is an architecture; for weights name a folder or open_clip:hf-hub:ORG/NAME")
    vision = dict(model["vision_cfg"])
    weights = _weights(folder, "open_clip_model.safetensors", hub, pretrained)
    if not pretrained:
        vision["image_size"] = pixels
    size = int(vision.get("image_size", 224))
    statistics = {"mean": preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN), "std": preprocess.get("std", open_clip.OPENAI_DATASET_STD)}
    config = {"embed_dim": model["embed_dim"], "vision": vision, "quick_gelu": bool(model.get("quick_gelu", False))}
    return TrunkPlan("open_clip", config, size, *_statistics(statistics), weights)


def _plan_hf(rest: str, pixels: int, pretrained: bool) -> TrunkPlan:
    config: Any = load_pretrained("AutoConfig", rest, "cxr")
    config = getattr(config, "vision_config", config)
    folder = Path(rest)
    if not pretrained and isinstance(getattr(config, "image_size", None), int):
        config.image_size = pixels
    size = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
    found = folder / "preprocessor_config.json"
    cfg: dict[str, Any] = {}
    if folder.is_dir():
        cfg = json.loads(found.read_text()) if found.is_file() else {}
    elif pretrained:
        cfg = json.loads(Path(_from_hub(rest, "preprocessor_config.json")).read_text())
    statistics = {"mean": cfg.get("image_mean", HALF[0]), "std": cfg.get("image_std", HALF[1])}
    keep = config.to_dict() | {"model_type": config.model_type}
    return TrunkPlan("hf", keep, size, *_statistics(statistics), rest if pretrained else None)


def _weights(folder: Path, file: str, hub: str | None, pretrained: bool) -> str | None:
    """The safetensors file of a folder or hub name; None where random weights were asked for."""
    if not pretrained:
        return None
    if folder.is_dir():
        if not (folder / file).is_file():
            others = ", ".join(sorted(p.name for p in folder.iterdir()))[:120]
            raise ConfigError(
                f"cxr: expected {file} in {folder}, it holds {others or 'nothing'}; save the model as safetensors, nothing is unpickled"
            )
        return str(folder / file)
    if not hub:
        raise ConfigError("cxr: no pretrained weights are known for this model; set cxr_weights=random, or name a folder that holds them")
    return _from_hub(hub, file)


def _from_hub(name: str, file: str) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(name, file)


def _statistics(cfg: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = (tuple(float(v) for v in cfg.get(key) or half) for key, half in zip(("mean", "std"), HALF, strict=True))
    return (mean * 3)[:3] if len(mean) == 1 else mean, (std * 3)[:3] if len(std) == 1 else std
