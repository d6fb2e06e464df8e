"""`python -m pulp_hooks` is `pulp-hooks`."""

from pulp_hooks.cli import main

if __name__ == "__main__":
    main()
