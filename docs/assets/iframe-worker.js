// Browsers start no worker from a page that was opened from disk, and the search needs one: there, its script runs in a
// hidden frame and both sides exchange the same messages.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement('iframe')
      frame.hidden = true
      document.documentElement.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent('message', { data }))
      this.ready = new Promise((resolve, reject) => {
        const script = frame.contentDocument.createElement('script')
        script.onload = () => resolve(inside)
        script.onerror = reject
        script.src = new URL(url, location)
        frame.contentDocument.head.append(script)
      })
    }

    postMessage(data) {
      this.ready.then(inside => inside.dispatchEvent(new MessageEvent('message', { data })))
    }
  }
}
