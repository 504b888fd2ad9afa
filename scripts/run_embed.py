"""`python scripts/run_embed.py`: the seed's command line for `python -m concept_core embed`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from concept_core.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
