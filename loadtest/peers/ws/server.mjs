// A push server of ws: /ws gets broadcasts, /ws/{number} gets what is for that user; POST /pub and POST /pub/{number}
// publish. Compression is off, as by default; everything else is the default, too.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const everyone = new Set();
const users = new Map();

const server = createServer((request, response) => {
  if (request.method === 'GET' && request.url === '/ready') return response.end();
  const topic = /^\/pub(?:\/(\d+))?$/.exec(request.url);
  if (request.method !== 'POST' || !topic) {
    response.writeHead(404);
    return response.end();
  }
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const message = Buffer.concat(parts);
    if (topic[1] === undefined) {
      for (const socket of everyone) socket.send(message, { binary: false });
    } else {
      users.get(topic[1])?.send(message, { binary: false });
    }
    response.end();
  });
});
// Publishers keep their connections for the whole run.
server.keepAliveTimeout = 0;

const sockets = new WebSocketServer({ server, clientTracking: false });
sockets.on('connection', (socket, request) => {
  const topic = /^\/ws(?:\/(\d+))?$/.exec(request.url);
  if (!topic) return socket.close(1008);
  const user = topic[1];
  if (user === undefined) {
    everyone.add(socket);
    socket.on('close', () => everyone.delete(socket));
  } else {
    users.set(user, socket);
    socket.on('close', () => users.delete(user));
  }
  socket.on('error', () => socket.terminate());
});

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 65535 });
