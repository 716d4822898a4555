"""awscrt's own S3 client, as its documentation shows it: a PUT_OBJECT request with send_filepath."""

from pathlib import Path

from _peer import Job, Send, main
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import (
    ClientBootstrap,
    ClientTlsContext,
    DefaultHostResolver,
    EventLoopGroup,
    TlsContextOptions,
)
from awscrt.s3 import (
    S3ChecksumAlgorithm,
    S3ChecksumConfig,
    S3ChecksumLocation,
    S3Client,
    S3RequestTlsMode,
    S3RequestType,
    create_default_s3_signing_config,
)


def connect(job: Job) -> Send:
    options = dict(job.options)
    checksum = options.pop("checksum", None)
    group = EventLoopGroup()
    provider = AwsCredentialsProvider.new_static(job.access_key, job.secret_key)
    if job.ca:
        tls = TlsContextOptions()
        tls.override_default_trust_store_from_path(ca_filepath=job.ca)
        options["tls_connection_options"] = ClientTlsContext(tls).new_connection_options()
    client = S3Client(
        bootstrap=ClientBootstrap(group, DefaultHostResolver(group)),
        region=job.region,
        tls_mode=S3RequestTlsMode.ENABLED if job.secure else S3RequestTlsMode.DISABLED,
        signing_config=create_default_s3_signing_config(region=job.region, credential_provider=provider),
        **options,
    )
    config = None
    if checksum:
        config = S3ChecksumConfig(algorithm=S3ChecksumAlgorithm[checksum], location=S3ChecksumLocation.TRAILER)

    def send(file: str, key: str) -> None:
        headers = HttpHeaders([("Host", job.host), ("Content-Length", str(Path(file).stat().st_size))])
        request = HttpRequest("PUT", f"/{job.bucket}/{key}", headers)
        made = client.make_request(
            type=S3RequestType.PUT_OBJECT, request=request, send_filepath=file, checksum_config=config
        )
        made.finished_future.result()

    return send


main(connect)
