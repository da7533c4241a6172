"""TLS with a CA of one's own, credentials files, and what is wrong with them in one sentence."""

import asyncio
import base64
import hashlib
import json
import logging
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
from nacl.signing import SigningKey

from shoal.bus.connecting import connect
from shoal.config import BusConfig
from shoal.errors import Forbidden, Invalid, Unanswered, Unavailable
from shoal.local import nats_server
from shoal.local.nats_server import NatsServer, ServerConfig

pytestmark = pytest.mark.integration


@asynccontextmanager
async def server(directory: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> AsyncIterator[NatsServer]:
    """A server with `more` in its configuration."""
    render = nats_server.render

    def rendered(config: ServerConfig, where: Path) -> str:
        return render(config, where) + more

    monkeypatch.setattr(nats_server, "render", rendered)
    async with NatsServer(directory) as running:
        yield running


# --- TLS ---


def make_ca(directory: Path) -> Path:
    """ca.pem, and server.pem with server.key, signed by it, for a name that nobody asks for."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=elsewhere")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-out", "server.pem", "-days", "2"),
    )
    return directory / "ca.pem"


async def test_the_servers_certificate_is_of_our_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, another = tmp_path / "ours", tmp_path / "another"
    ours.mkdir()
    another.mkdir()
    ca, wrong = make_ca(ours), make_ca(another)
    tls = f'tls {{ cert_file: "{ours / "server.pem"}", key_file: "{ours / "server.key"}" }}\n'
    async with server(tmp_path / "nats", monkeypatch, tls) as running:
        async with connect(BusConfig(servers=(running.url,), ca=str(ca)), name="safe") as bus:
            await bus.flush()
        with pytest.raises(Unavailable):
            async with connect(BusConfig(servers=(running.url,), ca=str(wrong)), name="unsafe", wait=False):
                pass


async def test_what_is_no_ca_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    with pytest.raises(Invalid, match=r"NATS_CA: .*ca\.pem is no certificate"):
        async with connect(BusConfig(ca=str(broken)), name="x"):
            pass


# --- credentials ---

_OPERATOR, _ACCOUNT, _USER = 14 << 3, 0, 20 << 3


def crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


class Identity:
    """An nkey of a kind, and the JWTs that it signs."""

    def __init__(self, prefix: int) -> None:
        raw = bytes(SigningKey.generate())
        self.seed = self._text(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + raw)
        self.pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._text(bytes([prefix]) + bytes(SigningKey(raw).verify_key))

    def _text(self, data: bytes) -> str:
        return base64.b32encode(data + crc16(data).to_bytes(2, "little")).decode().rstrip("=")

    def jwt(self, subject: str, nats: Mapping[str, Any]) -> str:
        claims = {
            "iat": 1_700_000_000,
            "iss": self.public,
            "sub": subject,
            "name": "test",
            "nats": {**nats, "version": 2},
        }
        digest = hashlib.sha256(json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        parts = [
            base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=")
            for p in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
        ]
        signature = base64.urlsafe_b64encode(self.pair.sign(b".".join(parts))).rstrip(b"=")
        return b".".join([*parts, signature]).decode()


def creds_file(path: Path, jwt: str, seed: str) -> str:
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return str(path)


async def test_a_credentials_file_opens_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, account, user = Identity(_OPERATOR), Identity(_ACCOUNT), Identity(_USER)
    every = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1}
    of_account = operator.jwt(account.public, {"type": "account", "limits": every})
    of_user = account.jwt(user.public, {"type": "user", "subs": -1, "data": -1, "payload": -1})
    config = f"""
operator: {operator.jwt(operator.public, {"type": "operator"})}
resolver: MEMORY
resolver_preload: {{ {account.public}: {of_account} }}
"""
    plain = nats_server.render

    def without_jetstream(config: ServerConfig, where: Path) -> str:  # which wants a system account
        return plain(config, where).partition("jetstream {")[0]

    monkeypatch.setattr(nats_server, "render", without_jetstream)
    async with server(tmp_path / "nats", monkeypatch, config) as running:
        good = creds_file(tmp_path / "good.creds", of_user, user.seed)
        async with connect(BusConfig(servers=(running.url,), creds=good), name="user") as bus:
            await bus.flush()
        stolen = creds_file(tmp_path / "stolen.creds", of_user, Identity(_USER).seed)
        with pytest.raises((Forbidden, Unavailable)):
            async with connect(BusConfig(servers=(running.url,), creds=stolen), name="thief", wait=False):
                pass


@pytest.mark.parametrize("text", ["", "nothing of the kind\n", "-----BEGIN NATS USER JWT-----\n"])
async def test_what_is_no_credentials_file_is_named(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "my.creds"
    broken.write_text(text)
    with pytest.raises(Invalid, match=r"NATS_CREDS: .*my\.creds is no credentials file"):
        async with asyncio.timeout(5), connect(BusConfig(creds=str(broken)), name="x"):
            pass


async def test_a_seed_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is no credentials file"):
        async with connect(BusConfig(creds=creds_file(tmp_path / "my.creds", "e.y.J", "SUNONE")), name="x"):
            pass


# --- rights ---

RIGHTS = """
authorization { users: [
  { user: narrow, password: p, permissions: { publish: ["open.>"], subscribe: ["_INBOX.>", "open.>"] } }
  { user: deaf, password: p, permissions: { publish: [">"], subscribe: ["open.>"] } }
] }
"""


async def test_a_right_that_is_missing_is_named_with_its_subject_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(tmp_path / "nats", monkeypatch, RIGHTS) as running:
        at = running.url.removeprefix("nats://")
        async with asyncio.timeout(10), connect(BusConfig(servers=(f"nats://narrow:p@{at}",)), name="x") as bus:
            with pytest.raises(Forbidden, match=r"secret\.things: "):
                await bus.ask("secret.things", timeout=60)
            with pytest.raises(Unanswered):
                await bus.ask("open.things", timeout=60)
        async with asyncio.timeout(10), connect(BusConfig(servers=(f"nats://deaf:p@{at}",)), name="x") as bus:
            with pytest.raises(Forbidden, match=r"open\.things: .* listen on _INBOX\."):
                await bus.ask("open.things", timeout=60)
            with pytest.raises(Forbidden, match=r"open\.more: "):
                await bus.ask("open.more", timeout=60)


async def test_a_credential_that_is_refused_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(tmp_path / "nats", monkeypatch, RIGHTS) as running:
        at = running.url.removeprefix("nats://")
        with pytest.raises(Forbidden, match="NATS refused the credential"):
            async with connect(BusConfig(servers=(f"nats://narrow:wrong@{at}",)), name="x", wait=False):
                pass


# --- passwords ---


async def test_no_password_is_told(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unavailable) as caught:
        async with connect(BusConfig(servers=("nats://me:s3cret@127.0.0.1:1",)), name="x", wait=False):
            pass
    assert "127.0.0.1:1" in str(caught.value)
    told = capfd.readouterr()
    assert "s3cret" not in f"{caught.value}{told.out}{told.err}{caplog.text}"
