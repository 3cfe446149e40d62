"""Options that several commands take, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[str, typer.Option(help="a bundle's folder, a hub id, or 'starter'")]
CxrBundle = Annotated[str, typer.Option(help="a bundle that reads chest X-rays: a folder or a hub id")]
Data = Annotated[Path, typer.Option(help="a prepared folder")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for whichever is there")]
Folder = Annotated[Path, typer.Option(help="folder to write; it appears whole or not at all")]
Force = Annotated[bool, typer.Option("--force", help="replace an output that exists")]
Threads = Annotated[int, typer.Option(help="CPU threads of torch; 0 leaves torch's own choice", min=0)]
