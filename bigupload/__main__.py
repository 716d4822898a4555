"""`python -m bigupload`, and the console script."""

from bigupload.cli import main

if __name__ == "__main__":
    main()
