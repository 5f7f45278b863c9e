// A push server of Socket.IO: every socket is in the room of everyone, one with ?id={number} also in its user's room;
// POST /pub and POST /pub/{number} publish to these rooms. WebSocket only, compression off, as by default.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const server = createServer((request, response) => {
  if (request.method === 'GET' && request.url === '/ready') return response.end();
  const topic = /^\/pub(?:\/(\d+))?$/.exec(request.url);
  if (request.method !== 'POST' || !topic) {
    response.writeHead(404);
    return response.end();
  }
  let message = '';
  request.setEncoding('utf8');
  request.on('data', (part) => (message += part));
  request.on('end', () => {
    const event = JSON.parse(message);
    if (topic[1] === undefined) io.emit('m', event);
    else io.to(`u${topic[1]}`).emit('m', event);
    response.end();
  });
});
// Publishers keep their connections for the whole run.
server.keepAliveTimeout = 0;

const io = new Server(server, { transports: ['websocket'] });
io.on('connection', (socket) => {
  const user = socket.handshake.query.id;
  if (user !== undefined) socket.join(`u${user}`);
});

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 65535 });
