// Talks to a node through ioredis and node-redis as an application does: node.mjs <port> <folder of node_modules>.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const port = Number(process.argv[2]);
const require = createRequire(`${process.argv[3]}/x.js`);

async function story(name, call) {
  assert.equal(await call('BUCKET.CREATE', name), 'OK');
  const documents = [1, 2, 3].map((n) => JSON.stringify({ n }));
  const ids = await call('BUCKET.INSERT', name, 'DOCS', ...documents);
  assert.equal(new Set(ids).size, 3);
  const reply = await call('BUCKET.QUERY', name, '{"n": {"$gt": 1}}');
  // A pair in RESP2; a map in RESP3, which ioredis lays flat and node-redis makes an object of.
  const entries = Array.isArray(reply) ? reply.at(-1) : reply.entries;
  assert.deepEqual(entries.map((entry) => JSON.parse(entry).n).sort(), [2, 3]);
  assert.equal(await call('BUCKET.REMOVE', name), 'OK');
  await assert.rejects(call('BUCKET.QUERY', name, '{}'), /BUCKETBEINGREMOVED/);
  assert.equal(await call('BUCKET.RESTORE', name), 'OK');
}

// ioredis pipelines on its own what is sent in one turn.
const Redis = require('ioredis');
const io = new Redis(port, '127.0.0.1', { connectionName: 'io', enableAutoPipelining: true });
assert.equal(await io.ping(), 'PONG');
await story('ioredis', (name, ...args) => io.call(name, ...args));
const echoes = await Promise.all(Array.from({ length: 200 }, (_, n) => io.echo(String(n))));
assert.deepEqual(echoes, echoes.map((_, n) => String(n)));
await io.quit();

const { createClient } = require('redis');
for (const RESP of [2, 3]) {
  const client = createClient({ url: `redis://127.0.0.1:${port}`, name: `node-${RESP}`, RESP });
  client.on('error', (error) => { throw error; });
  await client.connect();
  assert.equal(await client.ping(), 'PONG');
  assert.equal(await client.clientGetName(), `node-${RESP}`);
  await story(`noderedis${RESP}`, (...argv) => client.sendCommand(argv));
  await client.close();
}
console.log('ok');
