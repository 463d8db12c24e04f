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


key = bytes(range(32))
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
    "tree": {
        "genesis": key.hex(),
        "leaves": {str(leaf): leaf_seed(key, leaf).hex() for leaf in leaves},
    },
}, indent=2))
