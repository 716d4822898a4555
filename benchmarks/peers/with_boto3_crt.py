"""What boto3 does for `preferred_transfer_client="crt"`, set up by hand.

boto3's own switch ignores the client's endpoint_url and its CA (boto3.crt makes its client for AWS alone), and so
reaches no other store. This is the same machinery of s3transfer, called as boto3.crt calls it, but for endpoint and CA.
"""

import os

from _peer import Job, Send, main
from botocore.session import Session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)


def connect(job: Job) -> Send:
    session = Session()
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials())
    client = create_s3_crt_client(
        region=job.region,
        crt_credentials_provider=credentials.to_crt_credentials_provider(),
        use_ssl=job.secure,
        verify=job.ca,
        **job.options,
    )
    serializer = BotocoreCRTRequestSerializer(session, {"region_name": job.region, "endpoint_url": job.url})
    manager = CRTTransferManager(client, serializer)
    return lambda file, key: manager.upload(os.fspath(file), job.bucket, key).result()


main(connect)
