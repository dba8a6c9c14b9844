"""Two peers that the shared rigs do not have.

  skewed RIG …   the Bedrock rig by a clock that is an hour ahead
  odd PORT       a Bedrock that answers as AWS does where the rig cannot: `expired` in the model id: an expired
                 session token; `first`: an exception frame instead of the first token; `page`: a proxy's page"""
import datetime, json, runpy, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def skewed(rig, *args):
    ahead, real, real_time = datetime.timedelta(hours=1), datetime.datetime, time.time

    class Ahead(real):
        @classmethod
        def now(cls, tz=None): return real.now(tz) + ahead

    datetime.datetime = Ahead
    time.time = lambda: real_time() + ahead.total_seconds()   # the Date header
    sys.argv = [rig, *args]
    runpy.run_path(rig, run_name="__main__")


def odd(port):
    from smithy_aws_event_stream.events import EventMessage

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def log_message(self, *args): pass
        def do_GET(self): self.answer(200, "application/json", b"{}")

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            if "expired" in self.path:
                body = {"message": "The security token included in the request is expired"}
                self.answer(403, "application/json", json.dumps(body).encode(), {"x-amzn-ErrorType": "ExpiredTokenException"})
            elif "first" in self.path:
                headers = {":message-type": "exception", ":exception-type": "throttlingException", ":content-type": "application/json"}
                frame = EventMessage(headers=headers, payload=b'{"message":"Too many tokens"}').encode()
                if self.path.endswith("stream"): self.answer(200, "application/vnd.amazon.eventstream", frame)
                else: self.answer(429, "application/json", b'{"message":"Too many tokens"}', {"x-amzn-ErrorType": "ThrottlingException"})
            else:
                self.answer(200, "text/html", b"<html>login</html>")

        def answer(self, status, content_type, body, headers={}):
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


{"skewed": skewed, "odd": odd}[sys.argv[1]](*sys.argv[2:])
