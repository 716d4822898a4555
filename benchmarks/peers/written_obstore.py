"""obstore's writer."""

from pathlib import Path
from typing import Any

import obstore
from _peer import Job, Send, main, written
from obstore.store import S3Store


def connect(job: Job) -> Send:
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
    )
    return written(job, lambda key: obstore.open_writer(store, key, **job.options))


main(connect)
