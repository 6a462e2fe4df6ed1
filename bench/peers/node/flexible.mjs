// rate-limiter-flexible on Redis with ioredis: decisions per second, each caller on one key after the other.
// usage: node flexible.mjs PORT CALLERS SECONDS KEYS [pipelined]
import { Redis } from "ioredis";
import { RateLimiterRedis } from "rate-limiter-flexible";

const [port, callers, seconds, keys] = process.argv.slice(2, 6).map(Number);
// The connection as the library's pages make it, or with what ioredis has for load.
const enableAutoPipelining = process.argv[6] === "pipelined";
const redis = new Redis({ host: "127.0.0.1", port, enableAutoPipelining, enableOfflineQueue: false, lazyConnect: true });
await redis.connect();
const limiter = new RateLimiterRedis({ storeClient: redis, keyPrefix: "flexible", points: 1000, duration: 60 });
const names = Array.from({ length: keys }, (_, number) => `user-${number}`);

async function caller(number, until) {
  let at = (number * 7919) % keys;
  let count = 0;
  while (performance.now() < until) {
    try {
      await limiter.consume(names[at]);
    } catch (refused) {
      if (refused instanceof Error) throw refused;
    }
    at = at + 1 === keys ? 0 : at + 1;
    count += 1;
  }
  return count;
}

const all = (until) => Promise.all(Array.from({ length: callers }, (_, number) => caller(number, until)));
await all(performance.now() + 500);
const started = performance.now();
const counts = await all(started + seconds * 1000);
const total = counts.reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify((total * 1000) / (performance.now() - started)));
redis.disconnect();
