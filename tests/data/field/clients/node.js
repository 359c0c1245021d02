// Does one task in Node. The task comes on stdin as JSON, what came of it goes to stdout. The argument is the folder with
// the package.
const { readFileSync } = require("node:fs");
const { run } = require("./client.js");
const mqtt = require(`${process.argv[2]}/node_modules/mqtt`);

run(mqtt, JSON.parse(readFileSync(0, "utf8"))).then(
  (got) => console.log(JSON.stringify(got)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
