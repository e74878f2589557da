// Which way the reply's sound takes to the loudspeaker, so that the browser's echo canceller knows of it. README.md says
// what each browser takes as its reference.

/** @typedef {import('./types').Route} Route */

/** From here on Chromium cancels everything that it plays; before, only what came over a peer connection. */
const CHROMIUM_ALL = 97;
const OPEN_MS = 3000;

/** @returns {number} 0: no Chromium */
function chromiumVersion() {
  const data = /** @type {{brands?: {brand: string, version: string}[]}|undefined} */ (/** @type {any} */ (navigator).userAgentData);
  return Number(data?.brands?.find(({ brand }) => brand === 'Chromium')?.version ?? 0);
}

/**
 * @param {Route} wanted
 * @param {string} echo what the microphone's track reports as echoCancellation, '' before it is open
 * @param {number} [version] of Chromium
 * @returns {Exclude<Route, 'auto'>}
 */
export function chooseRoute(wanted, echo, version = chromiumVersion()) {
  if (wanted !== 'auto') return wanted;
  if (echo === 'remote-only') return 'peer';
  return version > 0 && version < CHROMIUM_ALL && echo !== 'false' ? 'peer' : 'element';
}

/** A peer connection of the page with itself: sound that comes out of it counts as the other side of a call. */
export class Loopback {
  /** @param {RTCPeerConnection} near @param {RTCPeerConnection} far @param {MediaStream} stream */
  constructor(near, far, stream) {
    this.near = near;
    this.far = far;
    this.stream = stream;
  }

  /** @param {MediaStream} source @returns {Promise<Loopback>} */
  static async open(source) {
    const near = new RTCPeerConnection();
    const far = new RTCPeerConnection();
    const loopback = new Loopback(near, far, new MediaStream());
    near.onicecandidate = ({ candidate }) => void far.addIceCandidate(candidate ?? undefined).catch(() => {});
    far.onicecandidate = ({ candidate }) => void near.addIceCandidate(candidate ?? undefined).catch(() => {});
    const arrived = new Promise((resolve, reject) => {
      far.ontrack = ({ track }) => {
        loopback.stream.addTrack(track);
        resolve(undefined);
      };
      setTimeout(() => reject(new Error('the loopback did not open')), OPEN_MS);
    });
    try {
      for (const track of source.getAudioTracks()) near.addTrack(track, source);
      await near.setLocalDescription(await near.createOffer());
      await far.setRemoteDescription(/** @type {RTCSessionDescription} */ (near.localDescription));
      const answer = await far.createAnswer();
      // Speech at a rate that does not spoil it, in frames of 10 ms: the codec's delay is heard.
      answer.sdp = answer.sdp?.replace(/(a=fmtp:\d+ )(.*useinbandfec=1)/, '$1$2;maxaveragebitrate=64000').replace(/(a=rtpmap:\d+ opus.*\r\n)/, '$1a=ptime:10\r\n');
      await far.setLocalDescription(answer);
      await near.setRemoteDescription(/** @type {RTCSessionDescription} */ (far.localDescription));
      await arrived;
      for (const receiver of far.getReceivers()) if ('jitterBufferTarget' in receiver) /** @type {any} */ (receiver).jitterBufferTarget = 0;
    } catch (error) {
      loopback.close();
      throw error;
    }
    return loopback;
  }

  close() {
    this.near.close();
    this.far.close();
  }
}
