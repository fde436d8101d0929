#!/usr/bin/env python3
"""Makes a key, and prints its public half as `jwks` and three tokens; needs `openssl`.

The private half is in a temporary folder, and gone at the end.
"""

import base64
import json
import pathlib
import subprocess
import tempfile

ISSUER = "https://issuer.example"
KEY_ID = "example"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def token(key, claims):
    header = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
    parts = [base64url(json.dumps(part).encode()) for part in (header, claims)]
    signed = ".".join(parts)
    signature = openssl("dgst", "-sha256", "-sign", key, data=signed.encode())
    return f"{signed}.{base64url(signature)}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        key, other = str(pathlib.Path(folder, "key.pem")), str(pathlib.Path(folder, "other.pem"))
        for name in (key, other):
            openssl("genrsa", "-out", name, "2048")
        modulus = openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip()
        modulus = base64url(bytes.fromhex(modulus.removeprefix("Modulus=")))
        public = {"kty": "RSA", "kid": KEY_ID, "alg": "RS256", "n": modulus, "e": "AQAB"}
        claims = {"iss": ISSUER, "sub": "alice"}
        print("jwks:", json.dumps({"keys": [public]}))
        # Without `exp` it does not expire.
        print("valid.jwt:", token(key, claims))
        print("expired.jwt:", token(key, claims | {"exp": 1_000_000_000}))
        print("forged.jwt:", token(other, claims))


main()
