"""Multipart request bodies, whose files are read while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from arena_async.errors import ArenaAsyncError, ConfigurationError
from arena_async.protocol.messages import UploadBody, UploadedFile

__all__ = ["Form"]


class Form(aiohttp.MultipartWriter):
    """
    A multipart body of declared length, whose files are read while they are sent.

    Args:
        upload: The fields and files.

    Attributes:
        failure: Why a file could not be read, or None. The HTTP client only reports a broken connection then.
        sent_at: When the last chunk was sent, on the clock of the event loop.
    """

    def __init__(self, upload: UploadBody) -> None:
        super().__init__("form-data")
        self.failure: Exception | None = None
        self.sent_at = 0.0
        for name, value in upload.fields:
            part = aiohttp.StringPayload(value)
            part.set_content_disposition("form-data", name=name)
            self.append_payload(part)
        for file in upload.files:
            content = _FilePart(file, self)
            content.set_content_disposition("form-data", quote_fields=False, name=file.part, filename=file.name)
            self.append_payload(content)


class _FilePart(aiohttp.Payload):
    """One file of a form."""

    def __init__(self, file: UploadedFile, form: Form) -> None:
        super().__init__(None, content_type=file.content_type)
        self._file = file
        self._form = form
        self._size = file.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002 - as in the base
        """Raise: a file is never in memory completely."""
        raise TypeError("The content of a file is sent in chunks and is never in memory completely.")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the chunks, exactly as many bytes as were declared."""
        chunks = self._file.read()
        loop = asyncio.get_running_loop()
        sent = 0
        try:
            async for chunk in chunks:
                sent += len(chunk)
                if sent > self._file.size:
                    break
                await writer.write(chunk)
                self._form.sent_at = loop.time()
            if sent != self._file.size:
                raise ConfigurationError(
                    f"{self._file.name}: {self._file.size} bytes were declared, and its reader returned"
                    f" {'more' if sent > self._file.size else sent}. The upload was aborted."
                )
        except Exception as error:
            self._form.failure = error if isinstance(error, ArenaAsyncError) else None
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
