"""The same as `lipwire bench quality`."""

import sys

from benchmarks.quality.command import main

sys.exit(main())
