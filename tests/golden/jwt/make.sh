#!/usr/bin/env bash
# Wrote the files beside it, once. TEST KEYS: they sign nothing but what the tests make. Needs openssl and python3.
#   first.pem, second.pem   two 2048-bit RSA keys of a GitLab that rotates
#   first.pkcs1.pem         the first in the older format
#   second.pub.pem          the second's public half
#   other.pem               a key that no one published
#   jwks.json               what /oauth/discovery/keys says: the first two, and keys that cannot sign these tokens
#   token.txt               a token of first.pem, signed by openssl and not by our code; valid 2025-11-06 from
#                           11:59:55 to 13:00:00 UTC (nbf 1762430395, exp 1762434000)
set -euo pipefail
cd "$(dirname "$0")"
for key in first second other; do
  openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$key.pem"
done
openssl rsa -in first.pem -traditional -out first.pkcs1.pem
openssl rsa -in second.pem -pubout -out second.pub.pem
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.pem
python3 - <<'PY'
import base64, hashlib, json, subprocess
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
def public(name):
    out = subprocess.run(["openssl", "rsa", "-in", f"{name}.pem", "-noout", "-modulus"], capture_output=True, check=True)
    n = b64(bytes.fromhex(out.stdout.decode().strip().removeprefix("Modulus=")))
    thumb = hashlib.sha256(json.dumps({"e": "AQAB", "kty": "RSA", "n": n}, separators=(",", ":")).encode()).digest()
    return {"kty": "RSA", "kid": b64(thumb), "e": "AQAB", "n": n, "use": "sig", "alg": "RS256"}
keys = {name: public(name) for name in ["first", "second", "weak"]}
odd = [
    {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA", "use": "sig", "alg": "ES256"},
    {**keys["first"], "kid": "for-encryption", "use": "enc"},
    {**keys["first"], "kid": "other-algorithm", "alg": "RS512"},
    {"kty": "oct", "kid": "shared", "k": "c2VjcmV0", "alg": "HS256"},
    {**keys["weak"], "kid": "weak"},
]
with open("jwks.json", "w") as file:
    json.dump({"keys": [keys["first"], *odd, keys["second"]]}, file, indent=1); file.write("\n")
claims = {"jti": "b6a0c1de-0000-4000-8000-000000000001", "iss": "https://gitlab.example.com",
          "sub": "11111111-2222-4333-8444-555555555555", "aud": ["gitlab-ai-gateway", "gitlab-duo-workflow-service"],
          "iat": 1762430400, "nbf": 1762430395, "exp": 1762434000, "gitlab_realm": "self-managed",
          "scopes": ["complete_code", "generate_code", "duo_chat", "explain_code", "not_yet_invented"],
          "skip_usage_cutoff": False}
head = {"typ": "JWT", "alg": "RS256", "kid": keys["first"]["kid"]}
signed = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", "first.pem"], input=signed.encode(), capture_output=True, check=True).stdout
open("token.txt", "w").write(f"{signed}.{b64(signature)}\n")
PY
rm weak.pem
