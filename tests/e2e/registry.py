"""A schema registry in a thread: Confluent's interface, as far as millrace
uses it, and a way to be out of order."""

import base64
import http.server
import json
import threading
import time


class Registry:
    """port 0: any that is free. mode: "well", or a status, or "hang"."""

    def __init__(self, case, port=0, user=None, password=None):
        self.schemas, self.mode = {}, "well"
        self.requests = []
        self.login = user and "Basic " + base64.b64encode(
            f"{user}:{password}".encode()).decode()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                registry.answer(self, None)

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                registry.answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port),
                                                      Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,),
                         daemon=True).start()
        case.addCleanup(self.stop)

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def add(self, schema_id, text):
        self.schemas[schema_id] = text

    def answer(self, handler, body):
        self.requests.append(f"{handler.command} {handler.path}")
        if self.login and handler.headers.get("Authorization") != self.login:
            return self.send(handler, 401, {"error_code": 401})
        if self.mode == "hang":
            time.sleep(30)
        if self.mode != "well":
            return self.send(handler, self.mode, {"error_code": self.mode})
        if body is not None:
            return self.send(handler, 200, {"id": self.register(body["schema"])})
        found = self.schemas.get(int(handler.path.rpartition("/")[2]))
        if found is None:
            return self.send(handler, 404, {"error_code": 40403,
                                            "message": "Schema not found"})
        return self.send(handler, 200, {"schema": found})

    def register(self, text):
        for schema_id, known in self.schemas.items():
            if known == text:
                return schema_id
        new = max(self.schemas, default=100) + 1
        self.schemas[new] = text
        return new

    @staticmethod
    def send(handler, status, body):
        text = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type",
                            "application/vnd.schemaregistry.v1+json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
