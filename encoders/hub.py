"""Loading Hugging Face models from a folder or, when the user gave a hub name, from the hub; without their progress talk."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regen.errors import ConfigError


def load_pretrained(kind: str, name: str | Path, who: str, **options: Any) -> Any:
    """`transformers.<kind>.from_pretrained`: safetensors only, no network for a folder, a wrong name as one clear error.

    kind: 'AutoModel', 'AutoTokenizer', 'AutoModelForCausalLM'; who: the recipe's key, for the message.

    Raises:
        ConfigError: nothing by that name here or on the hub, or a model of another kind.
    """
    import transformers
    from safetensors import SafetensorError

    if kind != "AutoTokenizer":
        options["use_safetensors"] = True
    try:
        with quiet():
            made = getattr(transformers, kind).from_pretrained(str(name), local_files_only=Path(name).is_dir(), **options)
        if kind == "AutoTokenizer" and len(made) <= len(set(made.all_special_ids)):
            raise ValueError("no vocabulary in it")
        return made
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{who}: expected a Hugging Face name or folder for {kind}, could not load {str(name)!r} ({reason})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no load reports on the terminal while the body runs."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
