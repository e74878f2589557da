// A way to take the daemon away and give it back without touching it: a proxy on a port of its own.
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';

/**
 * @param {string} target http://127.0.0.1:8000
 * @param {string} [socketPath] the daemon's unix socket: what comes this way comes from its terminal
 */
export async function startProxy(target, socketPath) {
  const { hostname, port, host } = new URL(target);
  const where = socketPath ? { path: socketPath } : { host: hostname, port: Number(port) };
  const sockets = new Set();
  let up = true;
  // The daemon checks Host and Origin; both are rewritten as a reverse proxy in front of it would.
  const rewrite = (headers) => ({ ...headers, host, ...(headers.origin ? { origin: `http://${host}` } : {}) });
  const server = createServer((request, response) => {
    const onward = httpRequest({ ...(socketPath ? { socketPath } : { hostname, port }), path: request.url, method: request.method, headers: rewrite(request.headers) }, (answer) => {
      const headers = { ...answer.headers };
      const policy = headers['content-security-policy'];
      if (policy) headers['content-security-policy'] = policy.replaceAll(host, request.headers.host);
      response.writeHead(answer.statusCode, headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.on('connection', (socket) => {
    if (!up) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  server.on('upgrade', (request, socket, head) => {
    const onward = connect(where, () => {
      const headers = Object.entries(rewrite(request.headers)).map(([name, value]) => `${name}: ${value}`);
      onward.write(`GET ${request.url} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
    socket.on('close', () => onward.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    down() {
      up = false;
      for (const socket of sockets) socket.destroy();
    },
    up() {
      up = true;
    },
    close() {
      this.down();
      server.close();
    },
  };
}
