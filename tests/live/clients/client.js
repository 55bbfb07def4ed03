// Asks for each URL with Node's https.

const https = require('https')

async function main (urls) {
  for (const url of urls) {
    console.log('== ' + url)
    await new Promise(resolve => {
      https.get(url, answer => {
        answer.on('data', piece => process.stdout.write(piece))
        answer.on('end', () => { console.log(); resolve() })
      }).on('error', error => { console.log(error.message); resolve() })
    })
  }
}

main(process.argv.slice(2))
