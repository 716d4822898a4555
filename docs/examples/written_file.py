"""What a library writes into a file (`zipfile`, `pandas`), uploaded while it writes. If it fails, there is no object.

A pipe would not do: its end looks the same whether the writer is done or has raised. `python written_file.py` uploads a
zip file to the local store, then a table, and then a file whose program raises.
"""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import bigupload

LOCAL = bigupload.S3Options(local=True)


def main() -> None:
    here = Path(__file__).parent
    with (
        bigupload.open_writer("s3://bigupload/examples.zip", s3=LOCAL) as writer,
        zipfile.ZipFile(writer, "w") as zipped,
    ):
        for path in sorted(here.glob("*.py")):
            zipped.write(path, path.name)
    print(f"zip: {writer.result.verified}")

    with bigupload.open_writer("s3://bigupload/rows.csv", s3=LOCAL, text=True) as rows:
        csv.writer(rows).writerows([number, number**2] for number in range(1_000))
    print(f"csv: {rows.result.verified}")
    # With pandas: frame.to_parquet(writer), frame.to_csv(writer)

    try:
        with bigupload.open_writer("s3://bigupload/half", s3=LOCAL, on_error="abort") as writer:
            writer.write(bytes(1_000_000))
            raise ValueError("the rows have ended too early")
    except ValueError as error:
        print(error)
        print(error.__notes__[0].partition(":")[0])


if __name__ == "__main__":
    main()
