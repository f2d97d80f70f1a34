// A js-libp2p host that speaks a node's framing and gossip: a peer that nobody of this project wrote.
// It prints one JSON object a line: {address}, then {ping, asked} of whoever connects, and {heard}.
if (!Promise.withResolvers) {
  Promise.withResolvers = () => {
    let resolve, reject
    const promise = new Promise((accept, refuse) => { resolve = accept; reject = refuse })
    return { promise, resolve, reject }
  }
}
const { createLibp2p } = await import('libp2p')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { tcp } = await import('@libp2p/tcp')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { gossipsub } = await import('@libp2p/gossipsub')

const ECHO = '/northbund/echo/1'
const TOPIC = '/northbund/test/cdt/1'
const say = (value) => console.log(JSON.stringify(value))

function frame (bytes) {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

async function readAll (stream) {
  const parts = []
  for await (const part of stream) parts.push(Buffer.from(part.subarray()))
  return Buffer.concat(parts)
}

const host = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub() }
})

await host.handle(ECHO, async (stream) => {
  const request = (await readAll(stream)).subarray(4)
  stream.send(frame(Buffer.concat([Buffer.from('js '), request])))
  await stream.close()
})

host.services.pubsub.addEventListener('message', (event) => {
  say({ heard: new TextDecoder().decode(event.detail.data), author: event.detail.from.toString() })
})
host.services.pubsub.subscribe(TOPIC)
setInterval(() => {
  host.services.pubsub.publish(TOPIC, Buffer.from('from js')).catch(() => {})
}, 300)

host.addEventListener('peer:identify', async ({ detail }) => {
  const ms = await host.services.ping.ping(detail.peerId)
  const stream = await host.dialProtocol(detail.peerId, ECHO)
  const answer = readAll(stream)
  stream.send(frame(Buffer.from('from js')))
  await stream.close()
  say({ ping: ms, asked: (await answer).subarray(4).toString() })
})

say({ address: host.getMultiaddrs()[0].toString() })
