"""One node of the stub lab: a door that lists its peers over HTTP, or a SIP node with a child that answers OPTIONS."""

import json
import os
import signal
import socket
import sys
import threading
import time

with open(sys.argv[1]) as file:
    settings = json.load(file)
print("node", settings["node"], "starts", flush=True)


def door() -> None:
    peers: set[str] = set()
    server = socket.create_server((settings["address"], settings["door_port"]))
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve, args=(client, peers), daemon=True).start()


def serve(client: socket.socket, peers: set[str]) -> None:
    request = client.recv(4096).decode()
    if request.startswith("PEER "):
        name = request.split()[1]
        peers.add(name)
        client.recv(1)
        peers.discard(name)
    elif settings["token"] in request:
        body = json.dumps([{"host": name, "state": "open"} for name in peers])
        client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    client.close()


def stay_connected() -> None:
    while True:
        try:
            with socket.create_connection((settings["door"], settings["door_port"])) as peer:
                peer.sendall(f"PEER {settings['host']}\n".encode())
                peer.recv(1)
        except OSError:
            pass
        time.sleep(0.05)


def sip() -> None:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(120)  # a child that stays when its parent has gone: the engine has to end it
        os._exit(0)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(os.path.join(settings["run"], "ctl"))
    threading.Thread(target=stay_connected, daemon=True).start()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((settings["address"], settings["sip"][settings["node"]]))
    while True:
        request, sender = server.recvfrom(65535)
        if request.startswith(b"OPTIONS"):
            server.sendto(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", sender)


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
door() if settings["node"] == "hss" else sip()
