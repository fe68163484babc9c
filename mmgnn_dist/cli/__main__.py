"""`python -m mmgnn_dist.cli`: the same as `mmgnn`."""

import sys

from mmgnn_dist.cli.main import main

sys.exit(main())
