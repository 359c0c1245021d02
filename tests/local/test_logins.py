"""Tokens and ports of a local cluster, kept in its directory."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.logins import FILE, Logins, remove_user_files, write_user_files
from heliograph.local.mosquitto_door import MosquittoDoor
from heliograph.local.nats_server import Broker, User
from heliograph.server import locate

MOSQUITTOS_LINE = 1023
"""Characters of a line of the options files of mosquitto's clients, at most."""
USERS = (User("operator", "of-operator", "operator"), User("alice", "of-alice", "user"))


def _broker(directory: Path, *ports: int) -> Broker:
    one = Broker(directory / "broker", "cloud", USERS)
    one.issue_logins()
    if ports:
        one.port, one.mqtt_port = ports
    return one


def test_tokens_are_long_differ_and_are_kept_privately(tmp_path: Path) -> None:
    logins = Logins(tmp_path, ("operator", "alice"), World())
    assert len(set(logins.tokens.values())) == 2
    assert all(len(token) >= 32 and int(token, 16) for token in logins.tokens.values())
    logins.save(_broker(tmp_path))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert Logins(tmp_path, ("operator", "alice"), World()).tokens == logins.tokens


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokens": {"a b": "x"}, "ports": {}}',
                                     '{"tokens": {}, "ports": {"port": 70000}}'])  # fmt: skip
def test_a_damaged_file_makes_no_new_tokens(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(HeliographError, match=f"{FILE} cannot be read; delete it to give every user a new token"):
        Logins(tmp_path, ("operator",), World())


def test_a_port_that_another_process_has_taken_is_left_to_it(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, two)]
        Logins(tmp_path, ("operator",), World()).save(_broker(tmp_path, *ports))
        one.listen()
        again = _broker(tmp_path)
        Logins(tmp_path, ("operator",), World()).choose_ports(again)
        assert (again.port, again.mqtt_port) == (0, 0)
    Logins(tmp_path, ("operator",), World()).choose_ports(again)
    assert [again.port, again.mqtt_port] == ports


def test_mosquittos_door_keeps_its_port_and_is_the_one_that_mqtt_clients_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.local.mosquitto_door.find_mosquitto", lambda: Path("mosquitto"))
    broker, door = _broker(tmp_path, 4222, 1883), MosquittoDoor(tmp_path / "door", USERS, World())
    Logins(tmp_path, ("operator",), World()).save(broker, door)
    again = MosquittoDoor(tmp_path / "door", USERS, World())
    Logins(tmp_path, ("operator",), World()).choose_ports(broker, again)
    assert again.broker.port == door.broker.port
    directory = write_user_files(tmp_path / "users", broker, ("alice",), again)["alice"]
    options = (directory / "mosquitto_rr").read_text().splitlines()
    assert options == ["-h 127.0.0.1", f"-p {door.broker.port}", "-u alice", "-P of-alice", "-V 5"]
    document = json.loads((directory / "cluster.json").read_text())
    assert document["mqtt"] == f"mqtt://alice:of-alice@127.0.0.1:{door.broker.port}"


def test_each_user_gets_its_own_files_in_place_of_earlier_ones(tmp_path: Path) -> None:
    home = tmp_path / "users"
    (home / "gone").mkdir(parents=True)
    broker = _broker(tmp_path, 4222, 1883)
    directories = write_user_files(home, broker, ("operator", "alice"))
    assert sorted(path.name for path in home.iterdir()) == sorted(directories) == ["alice", "operator"]
    options = (directories["alice"] / "mosquitto_rr").read_text().splitlines()
    password = broker.password("alice")
    assert options == ["-h 127.0.0.1", "-p 1883", "-u alice", f"-P {password}", "-V 311"]
    assert max(map(len, options)) < MOSQUITTOS_LINE
    document = json.loads((directories["alice"] / "cluster.json").read_text())
    assert (document["user"], document["mqtt"]) == ("alice", f"mqtt://alice:{password}@127.0.0.1:1883")
    found = locate(str(directories["alice"] / "cluster.json"))
    login = ConnectionUrl.parse(found.url).credentials
    assert (login.name, login.file) == ("alice", directories["alice"] / "login.creds")
    assert password not in found.url
    modes = {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_file()}
    assert modes == {0o600}
    remove_user_files(home)
    assert not home.exists()


def test_a_participant_finds_the_embedded_broker_also_where_people_find_mosquitto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.local.mosquitto_door.find_mosquitto", lambda: Path("mosquitto"))
    cluster = LocalCluster(tmp_path, [], participants={"phone": "of-phone"}, mosquitto=True)
    cluster.broker.mqtt_port = 1883
    cluster.broker.issue_logins()
    login = "participant-phone"
    home = write_user_files(tmp_path / "users", cluster.broker, ("operator",), cluster.mosquitto, participants=[login])
    document = json.loads((home[login] / "cluster.json").read_text())
    assert (document["user"], document["mqtt"]) == (
        login, f"mqtt://participant-phone:{cluster.broker.password(login)}@127.0.0.1:1883"
    )  # fmt: skip
    assert (home[login] / "mosquitto_sub").read_text().splitlines()[1] == "-p 1883"


@pytest.mark.parametrize("name", ["edge-1", "guest", "cloud", "*", "a.b", "", "x" * 52])
def test_a_participants_name_is_no_edges(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="participant"):
        LocalCluster(tmp_path, ["edge-1"], guests=["guest"], participants={name: "token"})


@pytest.mark.parametrize("name", ["coordinator", "system", "anonymous", "agent-edge-1", "edge-1",
                                  "guest", "cloud", "*", "a.b", ""])  # fmt: skip
def test_a_users_name_is_no_components_and_no_edges(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="field user"):
        LocalCluster(tmp_path, ["edge-1"], guests=["guest"], logins={name: "token"})
