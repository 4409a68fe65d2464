"""The Python client of the WebSocket protocol: `from server.client.socket_call import open_call`.

It needs numpy and `websockets`, and of the server nothing but its protocol.
"""
