"""A collector of traces that knows nothing of this program: Python's HTTP server, and the protocol as opentelemetry-proto has it.

Prints the port that it listens on, then each export as one line of JSON.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        is_export = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if is_export:
            # An error here ends the request without an answer.
            export = ExportTraceServiceRequest.FromString(body)
            print(MessageToJson(export, indent=None, preserving_proto_field_name=True), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if is_export else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_address[1], flush=True)
server.serve_forever()
