// A js-libp2p host that speaks a node's protocols, written against their description alone.
//
// It prints one JSON object a line: {address, key} first, then {ping} of whoever connects, {heard}
// for each announcement, and an answer to each command, which is a JSON object a line too:
// {ask: text, peer}, {announce: {...}}, {hold: base64, until}, {fetch: cid, peer}.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'

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
const { generateKeyPair, publicKeyFromRaw } = await import('@libp2p/crypto/keys')
const { peerIdFromString } = await import('@libp2p/peer-id')
const { encode, decode } = await import('@msgpack/msgpack')
const { CID } = await import('multiformats/cid')
const { create: digestOf } = await import('multiformats/hashes/digest')

const ECHO = '/northbund/echo/1'
const DOCUMENT = '/northbund/document/1'
const TOPIC = '/northbund/test/cdt/1'
const PART = 65_536
const RAW = 0x55
const SHA256 = 0x12
const DOMAIN = Buffer.from('northbund/1\0')

const say = (value) => console.log(JSON.stringify(value))
const canonical = (value) => Buffer.from(encode(value, { sortKeys: true }))
const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
const cidOf = (bytes) => CID.createV1(RAW, digestOf(SHA256, sha256(bytes))).toString()

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

async function request (peer, protocol, bytes) {
  const stream = await host.dialProtocol(peer, protocol)
  const answer = readAll(stream)
  stream.send(frame(bytes))
  await stream.close()
  return (await answer).subarray(4)
}

const privateKey = await generateKeyPair('Ed25519')
const key = Buffer.from(privateKey.publicKey.raw)
const host = await createLibp2p({
  privateKey,
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub() }
})

await host.handle(ECHO, async (stream) => {
  const asked = (await readAll(stream)).subarray(4)
  stream.send(frame(Buffer.concat([Buffer.from('js '), asked])))
  await stream.close()
})

const held = new Map()
await host.handle(DOCUMENT, async (stream) => {
  const { cid, offset } = decode((await readAll(stream)).subarray(4))
  const { body, until } = held.get(cid) ?? { body: Buffer.alloc(0), until: Infinity }
  if (offset >= until) return stream.abort(new Error('the transfer is cut here'))
  const part = body.subarray(offset, offset + PART)
  stream.send(frame(canonical({ type: 'document', total: body.length, part, wait_s: 0 })))
  await stream.close()
})

async function ask (text, peer) {
  say({ asked: (await request(peerIdFromString(peer), ECHO, Buffer.from(text))).toString() })
}

async function fetchDocument (cid, peer) {
  const parts = []
  let offset = 0
  let total = 1
  while (offset < total) {
    const asked = canonical({ type: 'document-request', cid, offset })
    const answer = decode(await request(peerIdFromString(peer), DOCUMENT, asked))
    total = answer.total
    parts.push(answer.part)
    offset += answer.part.length
  }
  const body = Buffer.concat(parts)
  say({ fetched: cidOf(body), bytes: body.length, parts: parts.length })
}

// JSON has no bytes: members that are bytes come as hexadecimal text.
async function announce ({ cdt, owner, proof, ...rest }) {
  const hex = (text) => Buffer.from(text, 'hex')
  const body = canonical({
    type: 'announcement', cdt: hex(cdt), owner: hex(owner), proof: hex(proof), ...rest
  })
  const signature = Buffer.from(await privateKey.sign(Buffer.concat([DOMAIN, body])))
  const signed = canonical({ type: 'signed', body, key, signature })
  const publish = () => host.services.pubsub.publish(TOPIC, signed).catch(() => {})
  publish()
  setInterval(publish, 300)
}

host.services.pubsub.addEventListener('message', async ({ detail }) => {
  const signed = decode(detail.data)
  const author = publicKeyFromRaw(signed.key)
  const valid = await author.verify(Buffer.concat([DOMAIN, signed.body]), signed.signature)
  const announcement = decode(signed.body)
  const same = Buffer.compare(canonical(announcement), Buffer.from(signed.body)) === 0
  say({ heard: announcement.name, cdt: Buffer.from(announcement.cdt).toString('hex'), valid, same })
})
host.services.pubsub.subscribe(TOPIC)

host.addEventListener('peer:identify', async ({ detail }) => {
  say({ ping: await host.services.ping.ping(detail.peerId) })
})

createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line)
  if (command.ask) ask(command.ask, command.peer)
  if (command.announce) announce(command.announce)
  if (command.fetch) fetchDocument(command.fetch, command.peer)
  if (command.hold) {
    const body = Buffer.from(command.hold, 'base64')
    held.set(cidOf(body), { body, until: command.until })
    say({ holds: cidOf(body), until: command.until })
  }
})

say({ address: host.getMultiaddrs()[0].toString(), key: key.toString('hex') })
