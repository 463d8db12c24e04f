"""Computes crypto.json: known answers from Python's hashlib, hmac and the `cryptography` package (OpenSSL).

    python3 tests/vectors/crypto.py > tests/vectors/crypto.json

It shares no code with Lacuna, and spells every format out once more from its description.
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def prefixed(*parts):
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def leaf_seed(genesis, leaf):
    """All 32 steps from the top of the tree, most significant bit first."""
    seed = genesis
    for bit in format(leaf, "032b"):
        seed = mac(seed, bytes([int(bit)]))
    return seed


def sealed(key, leaf, aad, nonce, plain):
    header = bytes([1, 1]) + leaf.to_bytes(5, "big")
    return header + nonce + AESGCM(key).encrypt(nonce, plain, aad + header)


def media(data_key, part, salt, plain):
    """docs/media.md, spelt out."""
    header = b"LCNMEDIA" + bytes([1, 1]) + part + salt
    cipher = AESGCM(mac(data_key, prefixed(b"lacuna/media/v1", part, salt)))
    chunks = [plain[at : at + 65536] for at in range(0, len(plain), 65536)] or [b""]
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        chunks[number] = cipher.encrypt(number.to_bytes(11, "big") + bytes([last]), chunk, header)
    return header + b"".join(chunks)


def envelope(length):
    sealed = media(key, media_part, media_salt, bytes(at % 251 for at in range(length)))
    digest = {"length": length, "sha256": hashlib.sha256(sealed).hexdigest()}
    return digest | ({"envelope": sealed.hex()} if length < 100 else {})


key = bytes(range(32))
media_part = bytes(range(200, 216))
media_salt = bytes(range(60, 92))
nonce = bytes(range(100, 112))
place = prefixed(b"lacuna/field/v1", b"subject", (7).to_bytes(8, "big"), b"identity")
subject = prefixed(b"lacuna/subject-key/v1", bytes([7] * 16), b"subject", b"identity", struct.pack(">I", 3))
leaves = [0, 1, 2, 255, 256, 65535, 65536, 0x12345678, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

print(json.dumps({
    "seal": {
        "key": key.hex(),
        "nonce": nonce.hex(),
        "sealed": sealed(key, 0x123456789A, place, nonce, b"ada@example.org").hex(),
    },
    "derive": {
        "key": key.hex(),
        "mac_one": mac(key, b"one").hex(),
        "mac_three": mac(key, prefixed(b"one", b"", b"three")).hex(),
        "left": mac(key, b"\0").hex(),
        "right": mac(key, b"\1").hex(),
        "root_id": hashlib.sha256(b"lacuna/root" + key).digest()[:16].hex(),
        "subject_key": mac(key, subject).hex(),
    },
    "media": {
        "key": key.hex(),
        "part": media_part.hex(),
        "salt": media_salt.hex(),
        "envelopes": [envelope(length) for length in [0, 20, 65536, 65537, 200000]],
    },
    "tree": {
        "genesis": key.hex(),
        "leaves": {str(leaf): leaf_seed(key, leaf).hex() for leaf in leaves},
    },
}, indent=2))
