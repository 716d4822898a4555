"""obstore's put of a path or, of standard input, of an iterator."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import obstore
from _peer import Job, Send, main
from obstore.store import S3Store


def connect(job: Job) -> Send:
    options = dict(job.options)
    put = {name: options.pop(name) for name in ("chunk_size", "max_concurrency") if name in options}
    client: Any = {"allow_http": True}
    if job.ca:
        client["root_certificate"] = Path(job.ca).read_bytes()
    store = S3Store(
        job.bucket,
        endpoint=job.url,
        region=job.region,
        access_key_id=job.access_key,
        secret_access_key=job.secret_key,
        virtual_hosted_style_request=False,
        client_options=client,
        **options,
    )
    if job.piped:
        read = partial(os.read, 0, 1 << 20)
        return lambda _, key: obstore.put(store, key, iter(read, b""), **put)
    return lambda file, key: obstore.put(store, key, Path(file), **put)


main(connect)
