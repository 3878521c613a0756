"""`python -m ragctl`."""

from ragctl.main import main

main()
