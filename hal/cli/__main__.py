"""``python -m hal.cli``: the same as `hal`."""

from . import main

raise SystemExit(main())
