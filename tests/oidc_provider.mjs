// A real OpenID provider (panva/node-oidc-provider, certified) for the tests: node oidc_provider.mjs MODULES PORT CLIENTS PEOPLE
// MODULES: the folder that npm installed into. CLIENTS: JSON of client metadata. PEOPLE: a JSON file of claims by login.
// Its login form takes a login and, as `amr`, how that was made; it asks for no consent.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, port, clients, people] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(found));
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  clients: JSON.parse(clients),
  claims: {
    openid: ['sub', 'acr', 'amr'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'], groups: ['groups'],
  },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ['tests'] },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...JSON.parse(fs.readFileSync(people))[sub] }) }),
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid profile email groups');
    await grant.save();
    return grant;
  },
});

const answer = provider.callback();
http.createServer(async (request, reply) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, reply);
  if (request.method === 'GET') {
    reply.setHeader('content-type', 'text/html');
    return reply.end('<form method="post"><input name="login"><input name="amr"><button>Log in</button></form>');
  }
  let body = '';
  for await (const piece of request) body += piece;
  const form = new URLSearchParams(body);
  const methods = (form.get('amr') || 'pwd').split(' ');
  const login = { accountId: form.get('login'), amr: methods, acr: methods.includes('otp') ? 'mfa' : 'single' };
  return provider.interactionFinished(request, reply, { login }, { mergeWithLastSubmission: false });
}).listen(Number(port), '127.0.0.1', () => console.log(`ready ${issuer}`));
