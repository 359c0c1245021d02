"""``python -m heliograph``: the command ``heliograph``, where its directory is not on the path."""

from heliograph.cli.main import main

if __name__ == "__main__":
    main()
