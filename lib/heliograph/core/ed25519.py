"""Ed25519 (RFC 8032): public keys, signatures and their verification, by the OpenSSL that Python has loaded anyway.

An agent signs at each connect, for as long as it runs: importing ``cryptography`` for that takes 12 MB. It is imported
only where Python brings an OpenSSL of its own that no library shows.
"""

from __future__ import annotations

import ctypes
import hashlib  # noqa: F401  loads OpenSSL
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

SECRET_BYTES = PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
_ED25519 = 1087
"""OpenSSL's number for this kind of key (``EVP_PKEY_ED25519``)."""
_LIBRARY = re.compile(r"\s(/\S*libcrypto[^/\s]*\.so[.0-9]*)$", re.MULTILINE)


def public_of(secret: bytes) -> bytes:
    """Return the public key, 32 bytes, of a secret of 32 bytes. Raise ValueError if it is of another length."""
    return _library().public_of(_checked(secret, SECRET_BYTES, "secret"))


def sign(secret: bytes, data: bytes) -> bytes:
    """Return the signature, 64 bytes. Raise ValueError if the secret has not 32 bytes."""
    return _library().sign(_checked(secret, SECRET_BYTES, "secret"), data)


def verified(public: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether the holder of a public key has signed the data; False for bytes that are no key or signature."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    return _library().verified(public, signature, data)


class Library(Protocol):
    """Whoever computes; lengths have been checked."""

    def public_of(self, secret: bytes) -> bytes: ...

    def sign(self, secret: bytes, data: bytes) -> bytes: ...

    def verified(self, public: bytes, signature: bytes, data: bytes) -> bool: ...


class OpenSsl:
    """The functions of a loaded libcrypto, 1.1.1 or later.

    Raises:
        AttributeError, OSError: if the file is no such library.
    """

    def __init__(self, file: Path) -> None:
        library = ctypes.CDLL(str(file))
        pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        room = ctypes.POINTER(size)
        self._new_private = _typed(library.EVP_PKEY_new_raw_private_key, pointer, ctypes.c_int, pointer, text, size)
        self._new_public = _typed(library.EVP_PKEY_new_raw_public_key, pointer, ctypes.c_int, pointer, text, size)
        self._public = _typed(library.EVP_PKEY_get_raw_public_key, ctypes.c_int, pointer, text, room)
        self._free_key = _typed(library.EVP_PKEY_free, None, pointer)
        self._new_context = _typed(library.EVP_MD_CTX_new, pointer)
        self._free_context = _typed(library.EVP_MD_CTX_free, None, pointer)
        begin = (ctypes.c_int, pointer, pointer, pointer, pointer, pointer)
        self._begin_signing = _typed(library.EVP_DigestSignInit, *begin)
        self._begin_verifying = _typed(library.EVP_DigestVerifyInit, *begin)
        self._sign = _typed(library.EVP_DigestSign, ctypes.c_int, pointer, text, room, text, size)
        self._verify = _typed(library.EVP_DigestVerify, ctypes.c_int, pointer, text, size, text, size)

    def public_of(self, secret: bytes) -> bytes:
        made, length = ctypes.create_string_buffer(PUBLIC_BYTES), ctypes.c_size_t(PUBLIC_BYTES)
        with self._key(self._new_private, secret) as key:
            _succeeded(self._public(key, made, ctypes.byref(length)))
        return made.raw

    def sign(self, secret: bytes, data: bytes) -> bytes:
        made, length = ctypes.create_string_buffer(SIGNATURE_BYTES), ctypes.c_size_t(SIGNATURE_BYTES)
        with self._key(self._new_private, secret) as key, self._context() as context:
            _succeeded(self._begin_signing(context, None, None, None, key))
            _succeeded(self._sign(context, made, ctypes.byref(length), data, len(data)))
        return made.raw

    def verified(self, public: bytes, signature: bytes, data: bytes) -> bool:
        key = self._new_public(_ED25519, None, public, len(public))
        if not key:
            return False
        try:
            with self._context() as context:
                _succeeded(self._begin_verifying(context, None, None, None, key))
                return bool(self._verify(context, signature, len(signature), data, len(data)) == 1)
        finally:
            self._free_key(key)

    @contextmanager
    def _key(self, new: Callable[..., Any], raw: bytes) -> Iterator[int]:
        key = new(_ED25519, None, raw, len(raw))
        _succeeded(bool(key))
        try:
            yield key
        finally:
            self._free_key(key)

    @contextmanager
    def _context(self) -> Iterator[int]:
        context = self._new_context()
        _succeeded(bool(context))
        try:
            yield context
        finally:
            self._free_context(context)


class Cryptography:
    """The same by the package ``cryptography``."""

    def public_of(self, secret: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

    def sign(self, secret: bytes, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(secret).sign(data)

    def verified(self, public: bytes, signature: bytes, data: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
        except InvalidSignature:
            return False
        return True


def loaded_openssl(maps: Path = Path("/proc/self/maps")) -> OpenSsl | None:
    """Return the libcrypto that this process has loaded; None where it shows none, or one without these functions."""
    try:
        found = _LIBRARY.search(maps.read_text())
        return OpenSsl(Path(found[1])) if found is not None else None
    except (OSError, AttributeError):
        return None


@cache
def _library() -> Library:
    return loaded_openssl() or Cryptography()


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


def _succeeded(result: int) -> None:
    if result != 1:
        raise RuntimeError("OpenSSL could not compute an Ed25519 signature or key")


def _checked(raw: bytes, length: int, what: str) -> bytes:
    if len(raw) != length:
        raise ValueError(f"expected a {what} of {length} bytes, got {len(raw)}")
    return raw
