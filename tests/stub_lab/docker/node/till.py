"""A SIP node that answers 503 to OPTIONS as long as nobody is connected to its other port."""

import socket
import sys
import threading

address, sip_port, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connected: list[socket.socket] = []


def take() -> None:
    door = socket.create_server((address, port))
    while True:
        client, _ = door.accept()
        connected.append(client)
        client.recv(1)
        connected.remove(client)


threading.Thread(target=take, daemon=True).start()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, sip_port))
while True:
    _, sender = server.recvfrom(65535)
    server.sendto(b"SIP/2.0 200 OK\r\n\r\n" if connected else b"SIP/2.0 503 Alone\r\n\r\n", sender)
