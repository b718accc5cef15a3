"""Peers that are no sshd: scripted ones, and a relay that adds delay.

Their sockets belong to a namespace of the world (pid 1 there made and passed them), but the
code runs in threads of the test's own process: it needs no start-up, and ends with the test.
"""
import asyncio
import socket
import threading
import time


class Peer:
    """Accepts on a listening socket and runs handle(connection) in a thread for each connection.

    handle may be bytes: they are sent, and then the connection stalls, or is closed or reset as `then` says.
    """

    def __init__(self, listener, handle, then="stall"):
        if then not in ("stall", "close", "reset"):
            raise ValueError(f"then={then}: not stall, close or reset")
        self.accepted = 0
        self._listener = listener
        self._handle = handle if callable(handle) else lambda connection: self._send(connection, handle, then)
        self._connections = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # stop() has shut it down
                return
            self.accepted += 1
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        try:
            self._handle(connection)
        except OSError:
            pass  # the other side, or stop(), has closed it

    @staticmethod
    def _send(connection, data, then):
        connection.sendall(data)
        if then == "close":
            # The end, and no reset, which is what close sends where something has come in that nobody has read.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        if then == "reset":
            # SO_LINGER with time 0: close sends RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if then != "stall":
            connection.close()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


class Relay:
    """Forwards connections of listener to (host, port), every byte delay_ms / 2 late in each direction.

    name is its address: what to call the node behind it.  delay_ms is the round trip added.
    """

    def __init__(self, name, listener, connect_socket, target, delay_ms):
        self.name = name
        self._connect_socket, self._target, self._delay = connect_socket, target, delay_ms / 2000
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader, writer):
        far = self._connect_socket()
        far.setblocking(False)
        try:
            await self._loop.sock_connect(far, self._target)
        except OSError:
            far.close()
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(sock=far)
        await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))

    async def _forward(self, reader, writer):
        due = asyncio.Queue()

        async def deliver():
            while True:
                when, data = await due.get()
                await asyncio.sleep(when - time.monotonic())
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        try:
            while True:
                data = await reader.read(1 << 16)
                due.put_nowait((time.monotonic() + self._delay, data))
                if not data:
                    break
            await delivery
        except OSError:
            delivery.cancel()
            writer.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
