// What a test asks a client in JavaScript to do, in Node or on a page. Returns the messages that it got, as [topic, text].
async function run(mqtt, task) {
  const client = await mqtt.connectAsync(task.url, { ...task.options, reconnectPeriod: 0 });
  const got = [];
  const awaited = new Set(task.read ?? []);
  const all = new Promise((resolve, reject) => {
    client.on("error", reject);
    client.on("message", (topic, payload) => {
      got.push([topic, payload.toString()]);
      awaited.delete(topic);
      if (awaited.size === 0) resolve();
    });
  });
  for (const topic of awaited) await client.subscribeAsync(topic, { qos: 1 });
  await Promise.all(task.publish.map(([topic, text]) => client.publishAsync(topic, text, { qos: 1 })));
  if (awaited.size > 0) await all;
  await client.endAsync();
  return got;
}

if (typeof module !== "undefined") module.exports = { run };
