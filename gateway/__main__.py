"""`python -m gateway`: the service, configured by `FLAREGATE_…`."""

import sys

from gateway.main import main

sys.exit(main())
