"""S3 and servers that speak like it, through s3fs, with one rule for retries and deadlines that hold.

s3fs and botocore both retry, each in its own way, so that one failing request can take minutes. Here
both try once, and `S3` tries again: up to `ATTEMPTS` times, within one deadline. Nothing of s3fs is cached.
(`_call_s3` is no secret of s3fs: fsspec names all its coroutines with an underscore.)

Credentials, region and server are those of every AWS tool: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `~/.aws`.
"""

from __future__ import annotations

import importlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metta_cli.artifacts.atomic import storage_errors
from metta_cli.artifacts.downloads import Digest, ProgressLog, digest_problem
from metta_cli.artifacts.reachability import require_reachable
from metta_cli.artifacts.s3_errors import DamagedTransferError, explain, is_transient, refusal
from metta_cli.errors import AccessError, CheckpointError, MettaError, NotFoundError, UsageError, suggestion

ATTEMPTS = 4
DEADLINE_SECONDS = 20.0
"""For everything but the bytes of a large file."""
SLOWEST_BYTES_PER_SECOND = 50_000
"""A transfer that is slower on average is given up."""
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
MAX_SMALL_BYTES = 16 << 20
MAX_PUT_BYTES = 5_000_000_000
"""What S3 takes in one request."""
MAX_PAGES = 100

_FIRST_WAIT_SECONDS = 0.3
_CHUNK_BYTES = 1 << 18
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class S3Object:
    """An object as the server describes it.

    Attributes:
        bucket: where it is.
        key: its full name there.
        bytes: its size.
        etag: changes when the content does.
        modified_at: when it was stored.
        md5: of its content, where the server says it.
    """

    bucket: str
    key: str
    bytes: int
    etag: str
    modified_at: datetime
    md5: str | None = None

    def __str__(self) -> str:
        """Return its address."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class S3Listing:
    """What is below a prefix.

    Attributes:
        objects: those that were listed.
        folders: what their names go on with up to the next `/`, for a listing that stops there.
        is_complete: whether that is all; a listing is cut after `MAX_PAGES` thousand names.
    """

    objects: list[S3Object]
    folders: list[str]
    is_complete: bool = True


def split_location(path: str) -> tuple[str, str]:
    """Return bucket and key of what stands behind `s3://`; the key is empty for a whole bucket.

    Raises:
        UsageError: it cannot be one, or would lead out of the bucket.
    """
    bucket, _, key = path.strip("/").partition("/")
    parts = key.split("/") if key else []
    if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts) or "\\" in key:
        raise UsageError(
            f"{'s3://' + path!r} is not an address on S3",
            "give s3://BUCKET/PATH, without empty parts and '..'",
        )
    return bucket, key


class S3:
    """One server.

    Args:
        deadline_seconds: within which every call ends; a transfer gets more, by its size.
        total_seconds: within which all calls together end.

    Raises:
        UsageError: s3fs is not installed, or the settings of the server make no sense.
        AccessError: the settings of the account make no sense.
        MettaError: the server cannot be reached.
    """

    def __init__(
        self, *, deadline_seconds: float = DEADLINE_SECONDS, total_seconds: float = math.inf
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self._ends_at = time.monotonic() + total_seconds
        self._fs = _new_file_system()
        try:
            client = self._fs.s3
        except Exception as error:  # botocore raises many kinds
            raise explain(error, "S3") from error
        self.endpoint = str(client.meta.endpoint_url)
        require_reachable(self.endpoint, "S3 server", "AWS_ENDPOINT_URL", CONNECT_SECONDS)

    def stat(self, bucket: str, key: str) -> S3Object | None:
        """Return the description of an object; None if there is no object of that name.

        Raises:
            NotFoundError: there is no such bucket.
            AccessError: this account may not see it.
        """
        try:
            head = self._call("head_object", Bucket=bucket, Key=key)
        except MettaError as error:
            if refusal(error) is None:
                raise
            # The answer to HEAD has no text: ask in another way what is wrong.
            if any(found.key == key for found in self.find(bucket, key, max_pages=1).objects):
                raise AccessError(
                    f"this account may list s3://{bucket}/{key}, but not read it", "ask for s3:GetObject"
                ) from error
            return None
        etag = str(head["ETag"]).strip('"')
        is_plain = head.get("ServerSideEncryption") in (None, "AES256") and "SSECustomerAlgorithm" not in head
        md5 = etag if is_plain and _MD5.fullmatch(etag) else None
        return S3Object(bucket, key, int(head["ContentLength"]), etag, head["LastModified"], md5)

    def find(
        self, bucket: str, prefix: str, *, folders: bool = False, max_pages: int = MAX_PAGES
    ) -> S3Listing:
        """Return what is stored under names that start with `prefix`.

        Args:
            bucket: where to look.
            prefix: any beginning of a name; end it with `/` to look into a folder.
            folders: stop at the next `/`.
            max_pages: how many thousand names to read.

        Raises:
            NotFoundError: there is no such bucket.
            AccessError: this account may not list it.
        """
        objects: list[S3Object] = []
        found_folders: list[str] = []
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix} | (
            {"Delimiter": "/"} if folders else {}
        )
        for _ in range(max_pages):
            page = self._page(arguments)
            for item in page.get("Contents", ()):
                etag = str(item.get("ETag", "")).strip('"')
                objects.append(S3Object(bucket, item["Key"], int(item["Size"]), etag, item["LastModified"]))
            found_folders += [
                item["Prefix"][len(prefix) :].rstrip("/") for item in page.get("CommonPrefixes", ())
            ]
            if not page.get("IsTruncated"):
                return S3Listing(objects, found_folders)
            arguments["ContinuationToken"] = page["NextContinuationToken"]
        return S3Listing(objects, found_folders, is_complete=False)

    def _page(self, arguments: dict[str, Any]) -> Any:
        """Return up to a thousand names."""
        try:
            return self._call("list_objects_v2", **arguments)
        except NotFoundError as error:
            try:
                buckets = [bucket["Name"] for bucket in self._call("list_buckets").get("Buckets", ())]
            except MettaError:  # not everybody may ask; then the first error says what is known
                raise error from None
            name = arguments["Bucket"]
            raise NotFoundError(
                f"there is no bucket '{name}' on {self.endpoint}", suggestion(name, buckets)
            ) from error

    def read(self, bucket: str, key: str) -> bytes:
        """Return the content of a small object.

        Raises:
            NotFoundError: there is none of that name.
            CheckpointError: it is larger than 16 MiB.
        """

        async def get() -> bytes:
            response = await self._fs._call_s3("get_object", Bucket=bucket, Key=key)
            async with response["Body"] as body:
                if response["ContentLength"] > MAX_SMALL_BYTES:
                    raise CheckpointError(
                        f"s3://{bucket}/{key} has {response['ContentLength']} bytes, which is too many for it"
                    )
                return bytes(await body.read())

        return bytes(self._tried(get, f"s3://{bucket}/{key}", self.deadline_seconds))

    def download(self, bucket: str, key: str, path: Path, expected: Digest, etag: str | None = None) -> None:
        """Write an object into a file, and see that it is the one that was expected.

        Args:
            bucket: where the object is.
            key: its name.
            path: the file; there is none afterwards if the download fails.
            expected: what is known of it; its size at least.
            etag: that the object must still have.

        Raises:
            NotFoundError: there is no such object any more.
            CheckpointError: what arrives is something else, however often it is asked for.
            StorageError: the file cannot be written.
            MettaError: the server fails, or is too slow.
        """
        source = f"s3://{bucket}/{key}"

        async def get() -> None:
            arguments = {"Bucket": bucket, "Key": key} | ({"IfMatch": f'"{etag}"'} if etag else {})
            response = await self._fs._call_s3("get_object", **arguments)
            progress = ProgressLog(f"downloading {source}", expected.bytes)
            async with response["Body"] as body:
                with storage_errors(path, expected.bytes or 0):
                    path.write_bytes(b"")
                with open(path, "ab") as file:
                    while chunk := await body.read(_CHUNK_BYTES):
                        with storage_errors(path, expected.bytes or 0):
                            file.write(chunk)
                            file.flush()
                        progress(len(chunk))
            problem = digest_problem(path, expected)
            if problem is not None:
                raise DamagedTransferError(problem)

        try:
            self._tried(get, source, self._transfer_seconds(expected.bytes))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def upload(self, bucket: str, key: str, path: Path) -> None:
        """Store a file under a name, in one step: nobody ever sees a part of it.

        Raises:
            AccessError: this account may not write there.
            NotFoundError: there is no such bucket.
            UsageError: the file is larger than S3 takes in one request.
        """
        num_bytes = path.stat().st_size
        if num_bytes > MAX_PUT_BYTES:
            raise UsageError(f"{path} is larger than 5 GB", "upload it with another tool")
        self._call(
            "put_object",
            seconds=self._transfer_seconds(num_bytes),
            Bucket=bucket,
            Key=key,
            Body=path.read_bytes(),
        )

    def _transfer_seconds(self, num_bytes: int | None) -> float:
        return self.deadline_seconds + (num_bytes or 0) / SLOWEST_BYTES_PER_SECOND

    def _call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        """Return the answer to one request, asked again where that may help."""
        what = "/".join(str(arguments[name]) for name in ("Bucket", "Key", "Prefix") if arguments.get(name))
        return self._tried(
            lambda: self._fs._call_s3(method, **arguments), f"s3://{what}", seconds or self.deadline_seconds
        )

    def _tried(self, ask: Callable[[], Any], what: str, seconds: float) -> Any:
        """Run what asks the server until it succeeds, fails for good, or the time is up."""
        from fsspec.asyn import sync

        deadline, wait = min(time.monotonic() + seconds, self._ends_at), _FIRST_WAIT_SECONDS
        for attempt in range(ATTEMPTS):
            try:
                left = max(deadline - time.monotonic(), 0.1)
                return sync(self._fs.loop, ask, timeout=left)
            except MettaError:
                raise
            except Exception as error:  # botocore, aiohttp and s3fs raise dozens of kinds
                is_last = attempt == ATTEMPTS - 1 or time.monotonic() + wait >= deadline
                if is_last or not is_transient(error):
                    raise explain(error, what, seconds=seconds, endpoint=self.endpoint) from error
            time.sleep(wait)
            wait *= 3
        raise AssertionError("the last attempt returns or raises")


def _new_file_system() -> Any:
    try:
        s3fs = importlib.import_module("s3fs")
    except ImportError as error:
        raise UsageError(
            f"addresses on S3 need s3fs, which cannot be imported ({error})", "pip install 'metta-cli[s3]'"
        ) from error
    config = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    file_system = s3fs.S3FileSystem(config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
    file_system.retries = 1
    return file_system
