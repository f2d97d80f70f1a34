// A Helia node that dials the address in its first argument and gets each CID of the others over
// bitswap. It prints one JSON object a line: {cid, bytes, sha256}, or {cid, missing}.
import { createHash } from 'node:crypto'

if (!Promise.withResolvers) {
  Promise.withResolvers = () => {
    let resolve, reject
    const promise = new Promise((accept, refuse) => { resolve = accept; reject = refuse })
    return { promise, resolve, reject }
  }
}
const { createHeliaLight } = await import('helia')
const { withBitswap } = await import('@helia/bitswap')
const { withLibp2pLight } = await import('@helia/libp2p')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { tcp } = await import('@libp2p/tcp')
const { identify } = await import('@libp2p/identify')
const { multiaddr } = await import('@multiformats/multiaddr')
const { CID } = await import('multiformats/cid')

const [address, ...cids] = process.argv.slice(2)
const helia = withBitswap(withLibp2pLight(createHeliaLight(), {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
}))
await helia.start()
await helia.libp2p.dial(multiaddr(address))

async function get (cid) {
  const parts = []
  for await (const part of helia.blockstore.get(CID.parse(cid), { signal: AbortSignal.timeout(4_000) })) {
    parts.push(part)
  }
  const block = Buffer.concat(parts)
  return { cid, bytes: block.length, sha256: createHash('sha256').update(block).digest('hex') }
}

for (const cid of cids) {
  const told = await get(cid).catch((error) => ({ cid, missing: error.name }))
  console.log(JSON.stringify(told))
}
await helia.stop()
process.exit(0)
