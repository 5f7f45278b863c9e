// A push server of Bun's own WebSockets and topics: /ws subscribes to `all`, /ws/{number} to that user's topic;
// POST /pub and POST /pub/{number} publish. Compression is off, as by default; everything else is the default, too.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.argv[2]),
  async fetch(request, server) {
    const path = new URL(request.url).pathname;
    if (path === '/ready') return new Response();
    const topic = /^\/(ws|pub)(?:\/(\d+))?$/.exec(path);
    if (!topic) return new Response(null, { status: 404 });
    const name = topic[2] ?? 'all';
    if (topic[1] === 'pub') {
      server.publish(name, await request.text());
      return new Response();
    }
    if (server.upgrade(request, { data: name })) return undefined;
    return new Response(null, { status: 400 });
  },
  websocket: {
    open(socket) {
      socket.subscribe(socket.data);
    },
    message() {},
  },
});
