"""`python -m gdmix_core.cli`, where the command `gdmix` is not on the path."""

from gdmix_core.cli.command import main

main()
